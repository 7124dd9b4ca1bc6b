"""The scripts in examples/ run as they are: as programs of a user, most of them on the fake hypervisor."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import magpie_local
from magpie_local import Magpie, config

FOLDER = Path(__file__).resolve().parents[2] / "examples"
#: What each prints, on the fake hypervisor where that has all it takes.
ON_THE_FAKE = {
    "hello": r"completed with exit code 0\nHello from .*\n6 \* 7 = 42\n",
    "secrets_and_outputs": (
        r"completed\ncalling the service with the token \*\*\*\n--- results/length-of-the-token.txt\n16\n"
        r"--- results/sorted.csv\napple,1\nfig,2\npear,3\n"
    ),
    "sweep": r"( 0.5  0.2397\n.*) 2.0  1.8186\n.*best: 2.0\n",
}
IN_VMS = {
    "pipeline": r"--- fetch: completed\n1000\n--- clean: failed\n--- report: completed\nsum 500500\n",
    "persistent_vm": (
        r"status: running\npaste this into a terminal: ssh -F .*\nby ssh I am magpie\nexec: 0 index.html\n"
        r"forwarded port: served by the VM\n"
    ),
    "private_network": (
        r"the server is at 10\.20\.0\.\d+\non the network: an answer from the server\nelsewhere: nobody there\n"
    ),
}


def test_every_example_is_listed_and_run() -> None:
    there = {path.stem for path in FOLDER.glob("*.py")}

    assert there == ON_THE_FAKE.keys() | IN_VMS.keys()
    assert set(re.findall(r"\((\w+)\.py\)", (FOLDER / "README.md").read_text())) == there


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_uses_what_is_public_and_says_what_it_shows(path: Path) -> None:
    tree = ast.parse(path.read_text())
    taken = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    ours = [node for node in taken if "magpie_local" in ast.unparse(node)]

    assert all(isinstance(node, ast.ImportFrom) and node.module == "magpie_local" for node in ours)
    assert {alias.name for node in ours for alias in node.names} <= set(magpie_local.__all__)
    assert f"python examples/{path.name}" in (ast.get_docstring(tree) or "")


@pytest.mark.parametrize("name", ON_THE_FAKE)
def test_an_example_does_what_it_says(place: Any, name: str) -> None:
    process = place.start(str(FOLDER / f"{name}.py"), PYTHONPATH=str(FOLDER.parent))
    out, err = process.communicate(timeout=50)

    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(ON_THE_FAKE[name], out, re.DOTALL), out


@pytest.mark.vm
@pytest.mark.timeout(200)
def test_the_other_examples_do_what_they_say_in_real_vms(vm_home: Path, image_folder: Path) -> None:
    settings = config.load(home=vm_home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        client.templates.warm()
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(FOLDER.parent)}
    for name, expected in IN_VMS.items():
        ended = subprocess.run(
            [sys.executable, str(FOLDER / f"{name}.py")],
            env=environment, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

        assert (ended.returncode, ended.stderr) == (0, "")
        assert re.fullmatch(expected, ended.stdout), ended.stdout
    with Magpie(settings=settings) as client:
        assert (client.workspaces.list(), client.networks.list()) == ([], [])
