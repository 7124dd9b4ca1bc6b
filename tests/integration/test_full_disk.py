"""A file system that really fills up while a template is saved in it: a tmpfs of the test's own, so only for root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from magpie_local import Magpie, config
from magpie_local.domain.template import RAM
from magpie_local.errors import TemplateFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a file system"),
]

#: What making a template asks for before it begins (256 MiB of memory and a margin of 512), and a little.
SIZE_MB = 800
MIB = 1024 * 1024


@pytest.fixture
def home() -> Iterator[Path]:
    """A state directory whose templates lie on a small file system."""
    home = Path(tempfile.mkdtemp(prefix="mgpfull", dir=tempfile.gettempdir()))
    templates = home / "templates"
    templates.mkdir(mode=0o700)
    options = f"size={SIZE_MB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "magpie-test", templates], check=True)
    try:
        yield home
    finally:
        subprocess.run(["umount", "--lazy", templates], check=True)
        shutil.rmtree(home)


@pytest.mark.parametrize("left_mb", [8, 40], ids=["at once", "while the guest boots"])
def test_a_full_disk_costs_the_template_and_nothing_else(home: Path, image_folder: Path, left_mb: int) -> None:
    templates = home / "templates"
    settings = config.load(home=home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=settings) as client:
        job = client.jobs.create(name="beside", script="sleep 1; echo unharmed", memory_mb=256)
        try:
            shrinker = threading.Thread(target=_shrink_when_begun, args=(templates, left_mb))
            shrinker.start()
            began = time.monotonic()
            with pytest.raises(TemplateFailed) as failure:
                client.templates.warm("base", 1, 256)
            took = time.monotonic() - began
            shrinker.join()

            assert "disk" in str(failure.value).lower()
            assert took < 60
            assert client.jobs.wait(job.id).success
            assert client.templates.list() == []
            assert not any(templates.glob("[!.]*"))
            assert not any((home / "warm").glob("*"))

            _resize(templates, SIZE_MB)
            made = client.templates.warm("base", 1, 256)
            assert [template.key for template in client.templates.list()] == [made.key]
        finally:
            client.jobs.delete(job.id, force=True)


def _shrink_when_begun(templates: Path, left_mb: int) -> None:
    """Leave `left_mb` of room, once the guest's memory begins to be written."""
    while not any(path.stat().st_blocks for path in templates.glob(f"*/{RAM}")):
        time.sleep(0.005)
    usage = shutil.disk_usage(templates)
    _resize(templates, usage.used // MIB + left_mb)


def _resize(templates: Path, size_mb: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_mb}m", templates], check=True)
