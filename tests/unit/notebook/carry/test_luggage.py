"""What goes with a cell, and what comes back of it; with the guest's half run as a program of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.error import UsageError

from notebook_ext.carry import luggage as luggages
from notebook_ext.carry import shell
from notebook_ext.carry.luggage import FOLDER, Luggage, pack
from notebook_ext.carry.plain import CarryError
from notebook_ext.options import parse

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Ended:
    """How a cell has ended in a guest."""

    code: int
    out: str
    err: str
    values: dict[str, Any]
    problems: list[str]


def unpacked(luggage: Luggage, folder: Path) -> None:
    for path, data in luggage.uploads.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def returned(luggage: Luggage, folder: Path) -> tuple[dict[str, Any], list[str]]:
    out = folder / luggage.out
    found = {path.name: path.stat().st_size for path in out.iterdir()} if out.is_dir() else {}
    return luggage.unpack(found, lambda name: (out / name).read_bytes())


@pytest.fixture
def run(tmp_path):
    """Return what runs a cell here, as a guest does: bash in its working directory."""

    def run(line: str, body: str, **variables: object) -> Ended:
        luggage = pack(parse(line), textwrap.dedent(body), variables)
        unpacked(luggage, tmp_path)
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
        ended = subprocess.run(
            ["bash", "-c", luggage.script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        values, problems = returned(luggage, tmp_path)
        return Ended(ended.returncode, ended.stdout, ended.stderr, values, problems)

    return run


def test_a_bash_cell_without_values_is_as_it_stands():
    luggage = pack(parse("-e A"), "echo $A\n", {})

    assert (luggage.script, luggage.uploads, luggage.outputs) == ("echo $A\n", {}, ())


def test_python_values_come_in_and_go_out(run):
    ended = run(
        "--python --in rows --in scale --out total --out names",
        """
        total = sum(rows) * scale
        names = {row: (row, {row}) for row in rows}
        print("done")
        """,
        rows=[1, 2, 3], scale=2.5,
    )  # fmt: skip

    assert (ended.code, ended.out, ended.err) == (0, "done\n", "")
    assert ended.values == {"total": 15.0, "names": {1: (1, {1}), 2: (2, {2}), 3: (3, {3})}}


def test_arrays_and_frames_come_in_and_go_out(run):
    frame = pd.DataFrame({"group": list("aba"), "value": [1.0, 2.0, 4.0]})

    ended = run(
        "--python --in frame --in weights --out means --out product",
        """
        means = frame.groupby("group").mean()
        product = weights @ weights
        """,
        frame=frame, weights=np.eye(3) * 2,
    )  # fmt: skip

    assert ended.err == ""
    pd.testing.assert_frame_equal(ended.values["means"], frame.groupby("group").mean())
    assert (ended.values["product"] == np.eye(3) * 4).all()


def test_nothing_of_the_cell_is_left_but_what_goes_out(run, tmp_path):
    run("--python --in x --out x", "assert x == 1", x=1)

    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        f"{FOLDER}/out/x.magpie"
    ]


def test_tracebacks_name_the_lines_of_the_cell_and_none_of_ours(run):
    ended = run("--python", "def f():\n    return 1 / 0\nf()\n")

    assert ended.code == 1
    assert ended.err.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<cell>", line 4, in <module>',
        "    f()",
        '  File "<cell>", line 3, in f',
        "    return 1 / 0",
        "           ~~^~~",
        "ZeroDivisionError: division by zero",
    ]


def test_a_syntax_error_names_its_line(run):
    ended = run("--python", "x = 1\ny = = 2\n")

    assert ended.code == 1
    assert ended.err.startswith('  File "<cell>", line 3\n    y = = 2\n')
    assert "SyntaxError" in ended.err


@pytest.mark.parametrize(
    ("body", "code", "comes_back"),
    [
        ("x = 2; import sys; sys.exit()", 0, True),
        ("x = 2; import sys; sys.exit(0)", 0, True),
        ("x = 2; import sys; sys.exit(3)", 3, False),
        ("x = 2; raise ValueError", 1, False),
        ("x = 2; raise SystemExit('words')", 1, False),
    ],
)
def test_a_script_may_exit_and_gives_nothing_where_it_has_failed(run, body, code, comes_back):
    ended = run("--python --out x", body)

    assert ended.code == code
    assert ended.values == ({"x": 2} if comes_back else {})


def test_the_body_is_a_script_like_any_other(run, tmp_path):
    (tmp_path / "beside.py").write_text("value = 7")

    ended = run(
        "--python",
        """
        from __future__ import annotations
        import pickle, sys, beside
        class Thing: pass
        assert isinstance(pickle.loads(pickle.dumps(Thing())), Thing)
        print(__name__, beside.value, sys.argv, sys.stdin.read() == "", "$HOME {x}", end="")
        """,
    )  # fmt: skip

    assert (ended.err, ended.out) == ("", "__main__ 7 ['<cell>'] True $HOME {x}")


def test_an_own_excepthook_is_asked(run):
    ended = run(
        "--python", "import sys\nsys.excepthook = lambda kind, error, trace: print(kind.__name__)\nraise KeyError"
    )

    assert (ended.code, ended.out, ended.err) == (1, "KeyError\n", "")


def test_output_is_live_and_an_interrupt_ends_it(tmp_path):
    luggage = pack(parse("--python"), "import time\nprint('begun', end='')\ntime.sleep(600)", {})
    unpacked(luggage, tmp_path)
    process = subprocess.Popen(
        ["bash", "-c", luggage.script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == "begun"

    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert 'File "<cell>", line ' in err
    assert err.endswith("KeyboardInterrupt\n")


def test_what_does_not_go_out_is_named(run):
    ended = run("--python --out a --out b --out c", "a = 1; b = open('/dev/null')")

    assert ended.code == 0
    assert ended.values == {"a": 1}
    assert ended.problems == [
        "--out b: a TextIOWrapper can't be carried; carry its parts, or write it to a file",
        "--out c: the script has not set it",
    ]


def test_a_guest_without_numpy_says_which_image_has_it(tmp_path):
    luggage = pack(parse("--python --in a"), "print(a)", {"a": np.arange(3)})
    unpacked(luggage, tmp_path)

    # Without its site packages, a Python has the standard library alone.
    start = [sys.executable, "-S", "-u", f"{FOLDER}/start.py"]
    ended = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert ended.stderr == "magpie: --in a: this image has no NumPy; use --image science, or pip install it\n"


@pytest.mark.parametrize(
    ("line", "variables", "words"),
    [
        ("--in epoch", {"epochs": 1}, "there is no variable 'epoch'; did you mean epochs?"),
        ("--python --in x", {}, "set it in another cell"),
        ("--python --in x", {"x": object()}, "a object can't be carried"),
        ("--in x", {"x": object()}, "a object can't be made a file"),
        ("--in größe", {"größe": 1}, "--python"),
    ],
)
def test_what_can_not_be_taken_along_is_one_line(line, variables, words):
    with pytest.raises(UsageError, match=r"^%%magpie: [^\n]*$") as caught:
        pack(parse(line), "true", variables)

    assert words in str(caught.value)


def test_what_is_too_large_is_refused_in_both_directions(monkeypatch):
    monkeypatch.setattr(luggages, "LIMIT", 100)
    with pytest.raises(UsageError, match="--put"):
        pack(parse("--python --in x"), "", {"x": b"x" * 101})

    luggage = pack(parse("--python --out x"), "", {})
    assert luggage.unpack({"x.magpie": 101}, lambda name: b"")[1] == [
        "--out x: it has 101 bytes; at most 100 are taken: write a file, and --get that"
    ]


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"garbage" * 100])
def test_garbage_from_a_guest_is_told_and_no_error_of_ours(data):
    for line in ("--python --out x", "--out x"):
        luggage = pack(parse(line), "", {})
        for ending in ("magpie", *(one for one in shell.ENDINGS if one not in ("txt", "bin", "csv"))):
            values, problems = luggage.unpack({f"x.{ending}": len(data)}, lambda name: data)
            assert values == {}
            assert problems[0].startswith("--out x: ")


def test_bash_gets_paths_and_writes_files(run):
    ended = run(
        "--in text --in data --in rows --in array --in frame --out total --out line --out table --out raw --out same",
        """\
        cat "$text"; wc -c < "$data"
        python3 -c 'import json, sys; print(sum(json.load(open(sys.argv[1]))))' "$rows" > "$MAGPIE_OUT/total.json"
        cd /
        head -n1 "$frame" > "$MAGPIE_OUT/line.txt"
        cp "$frame" "$MAGPIE_OUT/table.csv"; cp "$data" "$MAGPIE_OUT/raw.bin"; cp "$array" "$MAGPIE_OUT/same.npy"
        """,
        text="hällo\n", data=b"\0\1\2", rows=[1, 2, 3], array=np.arange(4), frame=pd.DataFrame({"a": [1, 2], "b": "x"}),
    )  # fmt: skip

    assert (ended.code, ended.out, ended.err, ended.problems) == (0, "hällo\n3\n", "", [])
    table = ended.values.pop("table")
    assert ended.values.pop("same").tolist() == [0, 1, 2, 3]
    assert ended.values == {"total": 6, "line": "a,b\n", "raw": b"\0\1\2"}
    assert table.to_dict("list") == {"a": [1, 2], "b": ["x", "x"]}


def test_lines_of_errors_of_bash_stay_right(run, tmp_path):
    luggage = pack(parse("--in x --out y"), "#!/bin/bash\nno-such-command", {"x": 1})
    unpacked(luggage, tmp_path)
    (tmp_path / "script").write_text(luggage.script)

    ended = subprocess.run(["bash", "script"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "script: line 2: no-such-command" in ended.stderr


def test_what_bash_has_not_written_is_named_and_not_taken_from_an_earlier_run(run):
    assert run("--out x", 'echo 1 > "$MAGPIE_OUT/x.json"').values == {"x": 1}

    assert run("--out x", "true").problems == ["--out x: the script has not written $MAGPIE_OUT/x.json"]


@pytest.mark.parametrize("value", ["text", b"bytes", [1, None, {"a": "b"}], np.arange(3), 1.5])
def test_what_bash_gives_back_unchanged_is_equal(value):
    found = shell.read(*shell.write(value))

    assert type(found) is type(value)
    assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value


def test_deep_json_is_an_error_and_no_more():
    with pytest.raises(CarryError, match=r"it is no \.json"):
        shell.read("json", b"[" * 200_000)


def test_files_of_the_cell_are_no_files_of_the_user(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from notebook_ext import values

    monkeypatch.chdir(tmp_path)
    there: Mapping[str, bytes] = {"a.csv": b"1", f"{FOLDER}/out/x.magpie": b"2"}
    files = [SimpleNamespace(path=path) for path in there]
    outputs: Any = SimpleNamespace(list=lambda: files, read=lambda path: there[path])
    client: Any = SimpleNamespace(jobs=SimpleNamespace(outputs=lambda _id: outputs))
    job: Any = SimpleNamespace(id="1")

    assert [str(path) for path in values.fetch(client, job, ["*"])] == ["a.csv"]
