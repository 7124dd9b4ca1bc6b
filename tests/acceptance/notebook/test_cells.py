"""`%%magpie` in a real kernel: output, status, failures, variables, reruns, background."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.timeout(120)

GATE = "until [ -e {gate} ]; do sleep 0.02; done"


def test_a_short_cell_looks_like_bash_and_says_how_it_ended(notebook):
    cell = notebook.ok("%%magpie\necho hello; echo $HOME {a,b}; echo oops >&2")

    assert cell.text() == "hello\n" + cell.text().splitlines()[1] + "\n"
    assert cell.text().splitlines()[1].endswith(" a b")
    assert cell.text("stderr") == "oops\n"
    assert re.fullmatch(r"✓ job [0-9a-f]{8} completed · exit code 0 · .* · (tcg|kvm)", cell.shown)


def test_a_failing_job_is_a_short_error(notebook):
    cell = notebook.run("%%magpie\nfor i in $(seq 12); do echo line $i >&2; done; exit 7")

    assert cell.error["ename"] == "JobFailed"
    told = "\n".join(cell.error["traceback"])
    assert "exit code 7" in told
    assert "line 12" in told
    assert "line 2\n" not in told
    assert "%magpie logs" in told
    assert "Traceback" not in told
    assert notebook.ok("%%magpie --no-raise\nexit 7").shown.startswith("✗")


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("%%magpie --memroy 4GB\ntrue", "did you mean --memory?"),
        ("%%magpie --memory\ntrue", "--memory SIZE"),
        ("%%magpie --memory soup\ntrue", "512MB"),
        ("%%magpie echo hi\ntrue", "the script goes below"),
        ("%%magpie\n   \n", "nothing to run"),
        ("%%magpie -e NOPE\ntrue", "NOPE=VALUE"),
        ("%%magpie --put nothing.txt\ntrue", "nothing.txt"),
        ("%%magpie --python --in nope\npass", "there is no variable 'nope'"),
        ("%magpie stopp 1234", "did you mean stop?"),
        ("%magpie stop", "%magpie stop ID"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_type(shared, code, word):
    cell = shared.run(code)

    told = cell.text("stderr").strip()
    assert told.startswith("UsageError: ")
    assert word in told
    assert "\n" not in told


def test_an_unknown_image_or_job_is_told_without_a_traceback(shared):
    image, job = shared.run("%%magpie --image nope\ntrue"), shared.run("%magpie logs 00001111")

    assert image.error["ename"] == "ImageNotFound"
    assert job.error["ename"] == "JobNotFound"
    assert "Traceback" not in "".join(image.error["traceback"] + job.error["traceback"])


def test_variables_go_in_and_files_go_there_and_back(notebook):
    notebook.ok("n = 3; who = {'name': 'a b'}\nopen('in.txt', 'w').write('from here')", cell_id="prepare")

    cell = notebook.ok(
        "%%magpie -e n -e who -e X='two words' --put in.txt:data/in.txt --get 'out/*.txt:back/' -o job\n"
        'echo "$n|$who|$X"; mkdir out; tr a-z A-Z < data/in.txt > out/up.txt'
    )

    assert cell.text() == '3|{"name": "a b"}|two words\n'
    assert notebook.value("open('back/up.txt').read()") == "FROM HERE"
    assert notebook.value("(job.status, job.logs(tail=1), job.wait().exit_code)").startswith("('completed'")


def test_a_secret_is_masked_and_never_written_into_the_cell(notebook):
    notebook.ok("TOKEN = 'hunter2-hunter2'", cell_id="prepare")

    assert notebook.ok('%%magpie --secret TOKEN\necho "it is $TOKEN"').text() == "it is ***\n"
    assert "=***" in notebook.run("%%magpie --secret TOKEN=hunter2\ntrue").text("stderr")


def test_a_returned_job_shows_itself(notebook):
    notebook.ok("%%magpie -o job --no-raise\necho '<script>alert(1)</script>'; exit 3")

    shown = notebook.ok("job", cell_id="show").displays["result"]

    assert "exit code 3" in shown["text/plain"]
    assert "<script>" not in shown["text/html"]
    assert "&lt;script&gt;" in shown["text/html"]


def test_the_background_goes_on_in_its_own_cell_while_others_run(notebook, tmp_path):
    script = f"echo begun; {GATE.format(gate=tmp_path / 'gate')}; echo finished"
    behind = notebook.ok(f"%%magpie --bg -o job\n{script}", cell_id="behind")
    assert behind.streams == []
    notebook.until(lambda: "begun" in behind.shown and "CPU" in behind.shown)

    busy = notebook.begin("import time\nfor i in range(8):\n    time.sleep(0.25); print('busy', i)", cell_id="busy")
    notebook.until(lambda: "busy 1" in busy.text())
    (tmp_path / "gate").touch()
    notebook.until(lambda: "finished" in behind.shown and "completed" in behind.shown)

    assert not busy.is_idle
    assert len(behind.displays) == 1
    assert busy.displays == {}
    notebook.until(lambda: busy.is_idle)
    assert "finished" not in busy.text() + busy.text("stderr")
    assert "text/html" in next(iter(behind.displays.values()))
    assert notebook.value("job.status") == "completed"


def test_a_cell_run_again_while_its_job_runs_says_so(notebook):
    notebook.ok("%%magpie --bg -o first\nsleep 600", cell_id="one")

    again = notebook.run("%%magpie --bg\nsleep 600", cell_id="one")

    assert "still runs" in again.text("stderr")
    assert "--again" in again.text("stderr")
    assert notebook.value("first.id[:8]") in again.text("stderr")
    notebook.ok("%%magpie --bg -o other\nsleep 600", cell_id="two")
    notebook.ok("%%magpie --bg --again -o second\nsleep 600", cell_id="one")
    assert notebook.value("len({first.id, other.id, second.id})") == "3"


@pytest.mark.parametrize("how", ["no cell id", "variable"])
def test_where_nobody_sits_a_background_cell_waits_for_its_end(open_notebook, how):
    env = {"MAGPIE_NONINTERACTIVE": "1"} if how == "variable" else {}
    notebook = open_notebook(**env)

    cell = notebook.ok("%%magpie --bg\nsleep 0.3; echo all", cell_id="one" if how == "variable" else None)

    assert cell.text() == "all\n"
    assert "completed" in cell.shown


def test_the_verbs_show_and_end_jobs(notebook):
    notebook.ok("%%magpie --bg -o job --name sleeper\nsleep 600")
    notebook.until(lambda: notebook.value("job.refresh().status") == "running")

    assert "sleeper" in notebook.ok("%magpie ps", cell_id="ps").shown
    assert "sleeper" in notebook.ok("%magpie vms", cell_id="vms").shown
    assert notebook.ok("%magpie stop job", cell_id="stop").text().endswith(": stopped\n")
    assert notebook.ok("%magpie ps", cell_id="ps").shown == "no jobs"
    assert "sleeper" in notebook.ok("%magpie ps -a", cell_id="ps").shown
    assert notebook.ok("%magpie rm job", cell_id="rm").text().endswith(": deleted\n")
    assert notebook.ok("%magpie ps -a", cell_id="ps").shown == "no jobs"
    assert "hypervisor" in notebook.ok("%magpie config", cell_id="config").text()
    assert "ok " in notebook.ok("%magpie doctor", cell_id="doctor").text()


def test_a_slow_cell_says_what_it_waits_for(notebook, tmp_path):
    cell = notebook.begin(f"%%magpie\n{GATE.format(gate=tmp_path / 'gate')}; echo late")
    notebook.until(lambda: "running" in cell.shown)
    (tmp_path / "gate").touch()
    notebook.until(lambda: cell.is_idle)

    first, last = (bundle["text/plain"] for bundle in cell.displays.values())
    assert "image base" in first
    assert "completed" in last


def test_much_output_is_sent_in_few_messages_and_ends_in_the_log(notebook):
    notebook.ok("%config MagpieMagics.tail_lines = 4", cell_id="config")

    cell = notebook.ok("%%magpie -o job\nfor i in $(seq 5000); do echo line $i; done")

    assert cell.text().splitlines()[:200] == [f"line {i}" for i in range(1, 201)]
    assert len(cell.text().splitlines()) == 200
    assert "%magpie logs" in cell.text("stderr")
    assert cell.messages < 10
    assert notebook.value("job.logs().count('\\n')") == "5000"


def test_await_and_threads_and_blocking_calls_work_in_cells(notebook):
    notebook.ok(
        "from magpie_local import AsyncMagpie, Magpie\nimport threading\n"
        "client = AsyncMagpie()\n"
        "job = await client.jobs.create('async', 'echo one')\n"
        "print((await job).status, await job.logs(), end='')\n"
        "found = []\n"
        "def work():\n    found.append(Magpie().jobs.run_and_wait('thread', 'echo two').status)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join(); print(found)",
        cell_id="python",
    )

    assert list(notebook.cells.values())[-1].text() == "completed one\n['completed']\n"


def test_loading_is_silent_and_may_be_done_again(notebook):
    assert "already loaded" in notebook.ok("%load_ext magpie_local", cell_id="load").text()  # IPython's own word
    for code in ("%load_ext notebook_ext", "%reload_ext magpie_local", "%reload_ext notebook_ext"):
        cell = notebook.ok(code, cell_id="load")
        assert (cell.text(), cell.displays) == ("", {})
    assert notebook.ok("%%magpie\necho still here").text() == "still here\n"
    notebook.ok("%unload_ext notebook_ext", cell_id="load")
    assert "not found" in notebook.run("%%magpie\ntrue").text("stderr")


def test_completion_knows_options_verbs_jobs_and_workspaces(notebook):
    notebook.ok("%%magpie -o job -w my-disk\ntrue")

    def matches(code: str) -> list[str]:
        found: list[str] = notebook.client.complete(code, len(code), reply=True, timeout=20)["content"]["matches"]
        return found

    assert set(matches("%%magpie --me")) == {"--memory"}
    assert set(matches("%%magpie --workspace my")) == {"my-disk"}
    assert set(matches("%magpie sto")) == {"stop"}
    assert notebook.value("job.id") in matches("%magpie logs ")
