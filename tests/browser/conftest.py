"""A JupyterLab and a browser for each file of tests; what they looked like when a test failed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Chromium
from tests.browser.lab import Lab, Notebook
from tests.browser.server import ROOT, LabServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.terminal import TerminalReporter

#: Where pictures and logs go: MAGPIE_TEST_ARTEFACTS.
ARTEFACTS = Path(os.environ.get("MAGPIE_TEST_ARTEFACTS") or ROOT / "build" / "browser")
_made = pytest.StashKey[list[str]]()
#: The page of the file of tests that runs.
_current = pytest.StashKey[Lab | None]()


@dataclass(frozen=True, slots=True)
class Gate:
    """What a script or a cell waits for until the test opens it."""

    path: Path

    @property
    def bash(self) -> str:
        """The wait of a script."""
        return f"until [ -e {self.path} ]; do sleep 0.02; done"

    @property
    def python(self) -> str:
        """The wait of a cell, which keeps the kernel busy."""
        return f"import pathlib, time\nwhile not pathlib.Path('{self.path}').exists():\n    time.sleep(0.02)"

    def open(self) -> None:
        """Let it go on."""
        self.path.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[str], Gate]:
    """Make gates."""
    return lambda name: Gate(tmp_path / name)


@pytest.fixture(scope="module")
def server() -> Iterator[LabServer]:
    """Start a JupyterLab whose kernels have the fake hypervisor."""
    with LabServer() as running:
        yield running


@pytest.fixture(scope="module")
def _browser(server: LabServer, pytestconfig: pytest.Config) -> Iterator[Lab]:
    browser = Chromium({**server.env, "HOME": str(server.folder)})
    try:
        lab = pytestconfig.stash[_current] = Lab(server, browser)
        lab.load()
        yield lab
    finally:
        pytestconfig.stash[_current] = None
        browser.close()


@pytest.fixture
def lab(_browser: Lab) -> Iterator[Lab]:
    """Return JupyterLab's page; it must have asked nobody but our server, and opened no dialog of a browser's own."""
    yield _browser
    _browser.close_all()
    assert (_browser.browser.strangers, _browser.browser.dialogs) == ([], [])


@pytest.fixture
def opened(lab: Lab) -> Callable[..., Notebook]:
    """Open a new notebook: cell 0 loads the extension, and has run; the given ones follow."""

    def open_one(*cells: str) -> Notebook:
        notebook = lab.open(lab.write("%load_ext magpie_local", *cells))
        notebook.run(0)
        return notebook

    return open_one


@pytest.fixture(scope="session")
def widgets() -> None:
    """Fail the tests of the job widget where there is none: they must not pass for done."""
    if importlib.util.find_spec("notebook_ext.widgets") is None:
        pytest.fail("notebook_ext.widgets, with the job widget, is not there: nothing to press Stop on", pytrace=False)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Return the path of an artefact by name, and tell of it at the end."""

    def path(name: str) -> Path:
        return _artefact(request.config, name)

    return path


def _artefact(config: pytest.Config, name: str) -> Path:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    config.stash.setdefault(_made, []).append(name)
    return ARTEFACTS / name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    outcome = yield
    report = outcome.get_result()
    lab = item.config.stash.get(_current, None)
    if not report.failed or lab is None:
        return
    name = re.sub(r"[^\w-]+", "-", f"failed-{item.name}").strip("-")
    try:
        lab.page.screenshot(path=_artefact(item.config, f"{name}.png"))
    except Exception as error:  # the page may be what failed; the test's own error is what counts
        report.sections.append(("no picture of the page", str(error)))
    shutil.copyfile(lab.server.log, _artefact(item.config, f"{name}.log"))


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say where pictures and logs are."""
    if names := config.stash.get(_made, []):
        terminalreporter.write_line(f"browser: {ARTEFACTS}: {', '.join(names)}")
