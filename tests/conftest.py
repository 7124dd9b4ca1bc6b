"""What all tests share: the base image, built once, an empty store, and the count of tests on real VMs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from _pytest.terminal import TerminalReporter

    from magpie_local.domain.layout import Layout
    from magpie_local.store import Store
    from magpie_local.testing.clock import ManualClock

_NO_VM = "--no-vm was given"
#: Seconds for a test on real VMs that names no limit of its own.
_VM_TIMEOUT = 120


# A shell that starts us in the background has us ignore these, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No test has templates made behind its jobs, or forks kept waiting, unless it asks for that: its own processes and
# those that inherit this environment boot each VM afresh.
COLD = {"MAGPIE_TEMPLATES": "0", "MAGPIE_POOL": "0"}
os.environ.update(COLD)

# Machines are shared and noisy: how long an example takes says nothing about the code.
settings.register_profile("noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-vm", action="store_true", help="skip the tests that boot real virtual machines")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("vm") is None:
            continue
        if config.getoption("--no-vm"):
            item.add_marker(pytest.mark.skip(reason=_NO_VM))
        own = item.get_closest_marker("timeout")
        limit = own.args[0] if own is not None and own.args else _VM_TIMEOUT
        # The first of them also waits for the image to be built; that does not count.
        item.add_marker(pytest.mark.timeout(limit, func_only=True), append=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    outcome = yield
    report = outcome.get_result()
    if item.get_closest_marker("vm"):
        report.user_properties.append(("vm", True))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say how many tests booted real VMs: a run without them must not pass for a whole one."""
    reports = {kind: terminalreporter.stats.get(kind, []) for kind in ("passed", "failed", "error", "skipped")}
    counts = {
        kind: len({report.nodeid for report in found if ("vm", True) in getattr(report, "user_properties", ())})
        for kind, found in reports.items()
    }
    # A test may stand for several: those that it ran in another user's name.
    others = sum(
        int(value) - 1 for report in reports["passed"] for name, value in report.user_properties if name == "vm_tests"
    )
    ran = counts["passed"] + counts["failed"] + counts["error"] + others
    terminalreporter.write_line(f"real VMs: {ran} tests ran on real VMs, {counts['skipped']} skipped")


@pytest.fixture(scope="session")
def image_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with the base image: MAGPIE_IMAGES, else one of this user's; built when it is not up to date."""
    from magpie_local.images.builder import build

    folder = Path(os.environ.get("MAGPIE_IMAGES") or f"/var/tmp/magpie-images-test-{os.getuid()}")
    asyncio.run(build("base", folder, progress=_teller(pytestconfig)))
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The paths of a state directory that is not there yet."""
    from magpie_local.domain.layout import Layout

    return Layout(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def clock() -> ManualClock:
    """A clock that goes on only when it is told to."""
    from magpie_local.testing.clock import ManualClock

    return ManualClock(now=1000.0)


@pytest.fixture
async def store(layout: Layout, clock: ManualClock) -> AsyncIterator[Store]:
    """An empty store, which leads."""
    from magpie_local.store import open_store

    async with open_store(layout, clock) as store:
        await store.leader.lead()
        yield store


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """Return a function that shows the building of an image while output is captured."""
    capture = config.pluginmanager.getplugin("capturemanager")
    terminal = config.pluginmanager.getplugin("terminalreporter")

    def tell(line: str) -> None:
        if capture is not None and terminal is not None and "up to date" not in line:
            with capture.global_and_fixture_disabled():
                terminal.write_line(line)

    return tell
