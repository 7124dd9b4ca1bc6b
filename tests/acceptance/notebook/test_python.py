"""`%%magpie --python`, `--in` and `--out` in a real kernel, on the fake hypervisor."""

from __future__ import annotations

import sysconfig

import pytest

pytestmark = pytest.mark.timeout(120)

#: Where a guest on the fake hypervisor, which is this machine, finds NumPy and pandas.
SCIENCE = f"-e PYTHONPATH={sysconfig.get_path('purelib')}"


def test_python_runs_as_it_stands_and_values_come_and_go(notebook):
    notebook.ok("rows = [{'a': 1}, {'a': 2.5}]; wide = 2**100", cell_id="prepare")

    cell = notebook.ok(
        "%%magpie --python --in rows --in wide --out total --out seen -e HOWDY=there\n"
        "import os\nprint('$HOME {rows}', os.environ['HOWDY'])\n"
        "total = sum(row['a'] for row in rows) + wide\nseen = {(1, None), b'x'}"
    )

    assert cell.text() == "$HOME {rows} there\n"
    assert notebook.value("total == 3.5 + 2**100, seen == {(1, None), b'x'}") == "True True"


def test_arrays_and_frames_come_and_go(notebook):
    notebook.ok(
        "import numpy as np, pandas as pd\narray = np.arange(6.0).reshape(2, 3)\n"
        "frame = pd.DataFrame({'when': pd.date_range('2026', periods=3, tz='UTC'), 'group': list('aba')})",
        cell_id="prepare",
    )

    notebook.ok(
        f"%%magpie --python --in array --in frame --out doubled --out counts --out frame {SCIENCE}\n"
        "doubled = array * 2\ncounts = frame.groupby('group').size()\nframe['new'] = frame['when'].dt.day"
    )

    assert notebook.value("doubled.tolist()") == "[[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]"
    assert notebook.value("counts.to_dict()") == "{'a': 2, 'b': 1}"
    assert notebook.value("frame['new'].tolist(), str(frame['when'].dtype)[-4:]") == "[1, 2, 3] UTC]"


def test_a_traceback_names_the_lines_of_the_cell(notebook):
    cell = notebook.run("%%magpie --python\n\ndef f():\n    raise KeyError('gone')\nf()")

    assert cell.error["ename"] == "JobFailed"
    told = "\n".join(cell.error["traceback"])
    assert 'File "<cell>", line 5, in <module>' in told
    assert "KeyError: 'gone'" in told
    assert ".magpie-cell" not in told


def test_what_does_not_come_back_is_named_and_the_job_stays_as_it_ended(notebook):
    code = "%%magpie --python --out a --out b -o job\na = 1; b = lambda: 0"

    cell = notebook.run(code)

    assert "--out b: a function can't be carried" in cell.text("stderr")
    assert "completed" in cell.shown
    assert notebook.value("a, job.status") == "1 completed"
    assert "--out b" in notebook.ok(code.replace("--python", "--python --no-raise")).text("stderr")


def test_a_script_that_fails_sets_nothing(notebook):
    notebook.ok("x = 'before'", cell_id="prepare")

    notebook.run("%%magpie --python --out x\nx = 'after'; raise SystemExit(4)")

    assert notebook.value("x") == "before"


def test_the_background_sets_variables_when_it_has_ended(notebook, tmp_path):
    gate = tmp_path / "gate"
    behind = notebook.ok(
        f"%%magpie --python --bg --out x --out y\nimport os, time\nwhile not os.path.exists({str(gate)!r}):\n"
        "    time.sleep(0.02)\nx = [1, 2]",
        cell_id="behind",
    )
    assert notebook.value("'x' in globals()") == "False"

    gate.touch()

    notebook.until(lambda: "completed" in behind.shown and "--out y" in behind.shown)
    assert notebook.value("x") == "[1, 2]"


def test_values_go_with_files_and_a_workspace_of_bash(notebook):
    notebook.ok("rows = [1, 2, 3]\nopen('in.txt', 'w').write('from here')", cell_id="prepare")

    cell = notebook.ok(
        "%%magpie -w data --in rows --out copy --put in.txt --get '*'\n"
        'cat in.txt; cd /; cp "$rows" "$MAGPIE_OUT/copy.json"; cd - > /dev/null; echo 1 > made.txt'
    )

    assert cell.text() == "from here"
    assert notebook.value("copy") == "[1, 2, 3]"
    assert notebook.value("sorted(__import__('os').listdir())") == "['in.txt', 'made.txt']"
    notebook.ok("%%magpie --python -w data --out again\nagain = open('made.txt').read()")
    assert notebook.value("again") == "1\n"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("%%magpie --python --in nope\ntrue", "there is no variable 'nope'"),
        ("%%magpie --python --in shell_\ntrue", "a ZMQInteractiveShell can't be carried"),
        ("%%magpie --in not-a-name\ntrue", "the name of a Python variable"),
        ("%%magpie --out class\ntrue", "the name of a Python variable"),
        ("%%magpie --in\ntrue", "--in VAR"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(shared, code, word):
    shared.ok("shell_ = get_ipython()", cell_id="prepare")

    told = shared.run(code).text("stderr").strip()

    assert told.startswith("UsageError: ")
    assert word in told
    assert "\n" not in told
    assert shared.ok("%magpie ps -a", cell_id="ps").shown == "no jobs"


def test_variables_complete(shared):
    shared.ok("my_special_value = 1; my_special_other = 2", cell_id="prepare")

    reply = shared.client.complete("%%magpie --python --in my_spe", reply=True, timeout=30)

    assert reply["content"]["matches"] == ["my_special_other", "my_special_value"]
