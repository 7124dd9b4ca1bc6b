"""Identities: a job's is a dashed UUID (the wire format of every dialect), an attempt's is derived from it."""

from __future__ import annotations

import re
import uuid
from typing import NewType

from magpie_local.errors import JobNotFound

JobId = NewType("JobId", str)
VmId = NewType("VmId", str)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_job_id() -> JobId:
    """Return a fresh random job id."""
    return JobId(str(uuid.uuid4()))


def new_vm_id() -> VmId:
    """Return a fresh random VM id; it is the libvirt domain's UUID as well."""
    return VmId(str(uuid.uuid4()))


def parse_job_id(text: object) -> JobId:
    """Return `text` as a job id.

    Raises:
        JobNotFound: it does not have the form of one, so no job can have it.
    """
    if isinstance(text, str) and _UUID.fullmatch(text.lower()):
        return JobId(text.lower())
    shown = repr(text)[:80]
    raise JobNotFound(f"There is no job {shown}: a job id looks like {uuid.UUID(int=0)}.")
