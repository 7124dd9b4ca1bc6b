"""The extension in a terminal's IPython: no kernel, no HTML; on the fake hypervisor."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

import magpie_local
import notebook_ext
from magpie_local import Magpie, config
from notebook_ext import magics


@pytest.fixture(scope="module")
def home():
    folder = Path(tempfile.mkdtemp(prefix="mag", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shell(home):
    changes = {
        "MAGPIE_HOME": str(home / "state"), "MAGPIE_HYPERVISOR": "fake", "MAGPIE_KEEPER": "false",
        "MAGPIE_STOP_GRACE": "0.5", "MAGPIE_CONFIG": "", "MAGPIE_CPUS": "16",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.setenv(name, value)
        patch.delenv("VIRTUAL_ENV", raising=False)  # IPython warns of one that is not this Python's
        patch.chdir(home)
        made = InteractiveShell.instance()
        assert made.history_manager is not None
        made.history_manager.enabled = False  # no test writes into a user's history
        notebook_ext.load_ipython_extension(made)
        yield made
        magics._sessions.pop("").close()
        with Magpie(settings=config.load()) as client:
            for job in client.jobs.list():
                client.jobs.delete(job.id, force=True)
        notebook_ext.unload_ipython_extension(made)
        InteractiveShell.clear_instance()


def cell(shell: InteractiveShell, line: str, body: str) -> ExecutionResult:
    result: ExecutionResult = shell.run_cell(f"%%magpie {line}\n{body}")  # type: ignore[no-untyped-call]
    return result


def test_a_cell_prints_and_says_how_it_ended(shell, capsys):
    result = cell(shell, "-o job", "echo hello $((1 + 1))")

    out, err = capsys.readouterr()
    assert (result.success, result.result, out) == (True, None, "hello 2\n")
    assert "completed · exit code 0" in err
    assert shell.user_ns["job"].status == "completed"


def test_quiet_prints_the_output_alone(shell, capsys):
    cell(shell, "--quiet", "echo hello")

    assert capsys.readouterr() == ("hello\n", "")


def test_a_failing_job_is_an_error_unless_told_otherwise(shell, capsys):
    result = cell(shell, "", "echo reason >&2; exit 3")

    assert isinstance(result.error_in_exec, magpie_local.JobFailed)
    assert "Traceback" not in capsys.readouterr().out
    assert cell(shell, "--no-raise", "exit 3").success
    shell.run_cell("%config MagpieMagics.raise_on_error = False")
    assert cell(shell, "", "exit 3").success
    shell.run_cell("%config MagpieMagics.raise_on_error = True")


def test_the_timeout_of_the_settings_counts_unless_the_cell_names_one(shell, capsys):
    shell.run_cell("%config MagpieMagics.timeout = '0.3s'")

    assert cell(shell, "--no-raise -o job", "sleep 60").success
    assert shell.user_ns["job"].script_state == "timed_out"
    assert cell(shell, "--timeout 1m", "sleep 0.5").success
    shell.run_cell("%config MagpieMagics.timeout = ''")


def test_a_setting_that_is_not_allowed_says_what_is(shell, caplog):
    shell.run_cell("%config MagpieMagics.timeout = 'soon'")

    assert "90s" in caplog.text
    assert shell.magics_manager.registry["MagpieMagics"].timeout == ""
    # IPython keeps it all the same, for whoever is loaded next.
    notebook_ext.unload_ipython_extension(shell)
    with pytest.raises(magpie_local.InvalidInput, match="90s"):
        notebook_ext.load_ipython_extension(shell)
    shell.run_cell("%config MagpieMagics.timeout = ''")
    shell.config.MagpieMagics.timeout = ""
    notebook_ext.load_ipython_extension(shell)


def test_the_background_returns_at_once_and_can_be_attached_to(shell, capsys):
    cell(shell, "--bg -o job", "sleep 0.3; echo behind")
    assert "%magpie attach" in capsys.readouterr().err

    shell.run_cell("%magpie attach job")

    assert capsys.readouterr().out == "behind\n"


def test_verbs_print_tables(shell, capsys):
    cell(shell, "--name listed", "true")
    capsys.readouterr()

    shell.run_cell("%magpie ps --all")
    shell.run_cell("%magpie workspaces")

    out = capsys.readouterr().out
    assert "listed" in out
    assert "<" not in out


def test_both_names_load_the_same_once_and_unloading_takes_all_away(shell):
    notebook_ext.load_ipython_extension(shell)
    magpie_local.load_ipython_extension(shell)
    mine = [one for one in shell.configurables if type(one).__name__ == "MagpieMagics"]
    assert len(mine) == 1

    magpie_local.unload_ipython_extension(shell)
    notebook_ext.unload_ipython_extension(shell)
    assert "magpie" not in shell.magics_manager.magics["cell"]
    assert not [one for one in shell.configurables if type(one).__name__ == "MagpieMagics"]

    notebook_ext.load_ipython_extension(shell)
    assert cell(shell, "--quiet", "true").success


def test_the_help_has_every_option(shell):
    found = shell.object_inspect("%%magpie")

    assert "--workspace ID" in found["docstring"]
    assert "Examples:" in found["docstring"]


def test_loading_costs_no_widgets_and_no_ssh():
    code = (
        "import sys, notebook_ext; assert 'IPython' not in sys.modules\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "notebook_ext.load_ipython_extension(InteractiveShell.instance())\n"
        "print({'ipywidgets', 'asyncssh', 'libvirt', 'aiosqlite', 'numpy'} & set(sys.modules))"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.stdout == "set()\n", ended.stderr
