"""Ordinary users: a run by root repeats the contract suites, and what people do every day, as a user made for it.

libvirt has no session for root, and most users are not root; so neither stays untested, whoever runs the tests.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).resolve().parents[2]
EVERYDAY = "tests/acceptance/test_everyday_vm.py"
#: What the tests need of the sources. The checkout itself may lie where only root can look.
PARTS = (
    "magpie_local", "images", "tests/conftest.py", "tests/contract", "tests/acceptance/conftest.py", EVERYDAY,
    "pyproject.toml",
)  # fmt: skip
CONTRACTS = ("tests/contract/test_hypervisor.py", "tests/contract/test_guest.py")


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    """An ordinary user, with a home of a short path, of whom nothing stays."""
    if os.geteuid() != 0:
        pytest.skip("not root: this run tests an ordinary user already")
    # Not below TMPDIR: sockets lie below it, and CI's folder and this one are too much for their paths.
    with tempfile.TemporaryDirectory(prefix="mgu", dir="/var/tmp") as home:
        name = f"magpie-test-{os.getpid()}"
        subprocess.run(["useradd", "--no-create-home", "--home-dir", home, name], check=True)
        made = pwd.getpwnam(name)
        os.chown(home, made.pw_uid, made.pw_gid)
        try:
            yield made
        finally:
            _end_processes_of(made.pw_uid)
            # Forced: a killed process counts until init has reaped it.
            subprocess.run(["userdel", "--force", name], check=True)


@pytest.fixture(scope="module")
def prepared(user: pwd.struct_passwd, image_folder: Path) -> pwd.struct_passwd:
    """The user, with the sources, the packages they need and the base image in its home."""
    home = Path(user.pw_dir)
    _copy(image_folder / "base", home / "images/base")
    for part in PARTS:
        _copy(SOURCE / part, home / "source" / part)
    _copy(Path(sysconfig.get_path("purelib")), home / "site-packages")
    for path in (home, *home.glob("images/**/")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return user


@pytest.mark.vm
@pytest.mark.timeout(1800)
def test_the_contracts_hold_for_an_ordinary_user(prepared, record_property):
    # An embedded libvirt, too, works for anybody; its guests are those of the same QEMU.
    done = _run_tests(prepared, "-k", "session or (embed and test_hypervisor)", *CONTRACTS)

    record_property("vm_tests", _count(done, least=21))


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_an_ordinary_user_does_what_people_do_every_day(prepared, record_property):
    done = _run_tests(prepared, EVERYDAY)

    record_property("vm_tests", _count(done, least=3))


def _count(done: subprocess.CompletedProcess[str], *, least: int) -> int:
    """Return how many tests on real VMs a run had; it must have passed, with at least so many of them."""
    assert done.returncode == 0, done.stdout[-20_000:]
    counted = re.search(r"real VMs: (\d+) tests ran", done.stdout)
    assert counted, done.stdout[-2_000:]
    assert int(counted[1]) >= least
    return int(counted[1])


def _run_tests(user: pwd.struct_passwd, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The environment's own python may be out of this user's reach; its packages come by path.
    python = getattr(sys, "_base_executable", sys.executable)
    home = user.pw_dir
    environment = {
        "HOME": home, "PATH": os.environ["PATH"], "TMPDIR": home, "LANG": "C.UTF-8",
        "PYTHONPATH": f"{home}/source:{home}/site-packages", "MAGPIE_IMAGES": f"{home}/images",
    }  # fmt: skip
    try:
        return subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], env=environment, cwd=f"{home}/source",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except PermissionError:
        pytest.skip(f"{python} is where only root can look")


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a tree for others to read."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link)
    else:
        _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # Another file system.
        shutil.copy2(source, target, follow_symlinks=False)


def _end_processes_of(uid: int) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            pidfd = os.pidfd_open(int(process.name))
        except OSError:
            continue
        # Looked at while it is held: it can't become another's process.
        if process.exists() and process.stat().st_uid == uid:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
