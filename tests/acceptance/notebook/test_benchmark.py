"""The notebook's benchmark counts what it says it counts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    folder = Path(tempfile.mkdtemp(prefix="mag", dir="/tmp"))
    with Kernel(folder) as kernel:
        yield kernel
    shutil.rmtree(folder)


def test_a_cell_has_its_outputs_as_a_file_would_and_what_they_took(kernel: Kernel) -> None:
    before = kernel.cpu()
    plain = kernel.run("print('a' * 1000, flush=True); print('b')")
    cell = kernel.begin("%%magpie --bg\necho from behind", "behind")
    kernel.until(lambda: cell.is_final)

    assert plain.outputs == {"stdout": {"output_type": "stream", "name": "stdout", "text": "a" * 1000 + "\nb\n"}}
    assert (plain.messages, plain.size > 1000) == (2, True)
    assert plain.sent_at < plain.first_at < plain.idle_at
    assert len(cell.outputs) == 1
    assert "from behind" in str(cell.outputs)
    assert cell.messages >= cell.updates > 1
    assert kernel.cpu() > before
