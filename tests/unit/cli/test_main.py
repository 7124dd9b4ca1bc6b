from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from magpie_local.cli.main import guarded, magpie

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAGPIE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "home"


def every_command(group: click.Group = magpie, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += every_command(command, (*path, name))
    return found


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded([*command, "--help"]) == 0

    shown = capsys.readouterr().out
    assert "Usage: magpie" in shown
    assert "Example" in shown or "Commands:" in shown


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["stats"], "status"),
        (["run"], "SCRIPT"),
        (["run", "--"], "SCRIPT"),
        (["run", "/does/not/exist"], "/does/not/exist"),
        (["run", "/"], "directory"),
        (["run", "-", "--", "true"], "not both"),
        (["run", "--vcpus", "many", "--", "true"], "many"),
        (["run", "--timeout", "-5", "--", "true"], "'-5'"),
        (["run", "--memory", "lots", "--", "true"], "'lots'"),
        (["run", "--no-such-option", "--", "true"], "--no-such-option"),
        (["ps", "--status", "dead"], "pending"),
        (["ps", "--limit", "0"], "limit"),
        (["logs", "--tail", "-1", "x"], "tail"),
        (["rm"], "ID"),
        (["run", "--isolation", "strict", "--", "true"], "private"),
        (["doctor", "--verify-forks", "1"], "2<=x<=64"),
        (["templates", "rm"], "KEY"),
        (["templates", "rm", "--all", "3f2a"], "KEY"),
        (["images", "warm"], "NAME"),
        (["images", "warm", "base", "--memory", "lots"], "'lots'"),
        (["completion", "tcsh"], "tcsh"),
        (["--state-dir", "/etc/passwd", "ps"], "/etc/passwd"),
    ],
)
def test_wrong_usage_is_refused_with_code_2_before_anything_is_touched(
    arguments: list[str], word: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(arguments) == 2

    assert word in capsys.readouterr().err
    assert not home.exists()


def test_a_wrong_setting_is_refused_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAGPIE_CPUS", "none")

    assert guarded(["config", "show"]) == 2

    assert "environment MAGPIE_CPUS" in capsys.readouterr().err


def test_errors_are_json_where_json_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAGPIE_CPUS", "none")

    guarded(["config", "show", "--json"])

    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["exit"]) == ("invalid_input", 2)


def test_a_fault_of_our_own_is_called_one_and_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("magpie_local.config.load", lambda **_: 1 / 0)

    assert guarded(["config", "show"]) == 255

    shown = capsys.readouterr().err
    assert "bug in magpie_local: ZeroDivisionError" in shown
    assert "Traceback" not in shown


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("magpie_local.config.load", lambda **_: 1 / 0)

    guarded(["--debug", "config", "show"])

    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("magpie_local.config.load", interrupted)

    assert guarded(["config", "show"]) == 130


def test_settings_are_shown_with_their_origin(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guarded(["config", "show", "--json"])

    assert json.loads(capsys.readouterr().out)["home"] == {"value": str(home), "origin": "environment MAGPIE_HOME"}


def test_the_state_dir_option_beats_the_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guarded(["--state-dir", str(tmp_path / "other"), "config", "show", "--json"])

    assert json.loads(capsys.readouterr().out)["home"]["value"] == str(tmp_path / "other")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["completion", shell]) == 0

    assert "_MAGPIE_COMPLETE" in capsys.readouterr().out


def test_help_imports_neither_libvirt_nor_ssh_nor_the_store() -> None:
    heavy = "libvirt|asyncssh|aiosqlite|sqlite3|asyncio|platformdirs|magpie_local.api"
    program = (
        "import sys, re; from magpie_local.cli.main import guarded; guarded(['--help']); "
        f"sys.exit(','.join(m for m in sys.modules if re.match(r'({heavy})($|\\.)', m)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
