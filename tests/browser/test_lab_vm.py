"""`%%magpie` in JupyterLab, in a real VM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.server import LabServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.browser.lab import Notebook

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

_SUCCESS = re.compile(r"✓ job [0-9a-f]{8} completed · exit code 0 · .* · (tcg|kvm)")
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def server(image_folder: Path) -> Iterator[LabServer]:
    """Start a JupyterLab whose kernels have real VMs."""
    with LabServer(MAGPIE_HYPERVISOR=None, MAGPIE_CPUS=None, MAGPIE_IMAGES=str(image_folder)) as running:
        yield running


def test_a_cell_runs_in_a_vm_and_shows_what_it_says(opened: Callable[..., Notebook], keep) -> None:
    notebook = opened("%%magpie --memory 512MB\necho first; cat /proc/sys/kernel/random/boot_id; exit 0")
    notebook.start(1)
    notebook.wait_end(1)

    expect(notebook.output(1)).to_contain_text("first")
    expect(notebook.output(1)).to_contain_text(_SUCCESS)
    expect(notebook.output(1)).to_contain_text(_BOOT_ID)
    ours = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    expect(notebook.output(1)).not_to_contain_text(ours)
    notebook.page.screenshot(path=keep("lab-vm.png"))
