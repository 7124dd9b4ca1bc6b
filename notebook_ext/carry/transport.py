"""The two ways of a cell's luggage: with a job, and to a VM that is there already."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie_local import MagpieError
from magpie_local.errors import GuestFileNotFound
from notebook_ext.carry.luggage import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from magpie_local import Magpie
    from notebook_ext.carry.luggage import Luggage


def from_job(client: Magpie, job_id: str, luggage: Luggage) -> tuple[dict[str, Any], list[str]]:
    """Return the variables that a job has handed over, and what there is to say of the others."""
    outputs, out = client.jobs.outputs(job_id), f"{luggage.out}/"
    found = {one.path.removeprefix(out): one.size for one in outputs.list() if one.path.startswith(out)}
    return luggage.unpack(found, lambda name: outputs.read(out + name))


def own_folder() -> str:
    """Return a folder for one of many cells that run in the same VM."""
    return f"{FOLDER}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def in_vm(client: Magpie, job_id: str, luggage: Luggage) -> Iterator[None]:
    """Have the luggage lie in the VM of a persistent job meanwhile."""
    if not luggage.files and not luggage.wanted:
        yield
        return
    files = client.jobs.files(job_id)
    with tempfile.TemporaryDirectory(prefix="magpie-") as name:
        for path, data in luggage.files.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        files.upload(name, luggage.folder)
    try:
        yield
    finally:
        with contextlib.suppress(MagpieError):  # it is lost with its VM
            client.jobs.exec(job_id, ["rm", "-rf", luggage.folder])


def from_vm(client: Magpie, job_id: str, luggage: Luggage) -> tuple[dict[str, Any], list[str]]:
    """Return the variables that a script has left in such a VM, and what there is to say of the others."""
    files, found = client.jobs.files(job_id), {}
    with contextlib.suppress(GuestFileNotFound):
        found = {one.name: one.size for one in files.list(luggage.out) if one.kind == "file"}

    def read(name: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="magpie-") as folder:
            files.download(f"{luggage.out}/{name}", Path(folder, name))
            return Path(folder, name).read_bytes()

    return luggage.unpack(found, read)
