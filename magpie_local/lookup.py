"""Abbreviated job ids: any prefix of at least four characters that only one job has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from magpie_local.errors import InvalidInput, JobNotFound

if TYPE_CHECKING:
    from magpie_local import Magpie

LEAST = 4
#: How far back abbreviations reach, in jobs: a look-up stays fast beside a million old ones.
REACH = 10_000
_PAGE = 1_000
_FULL = 36
_PREFIX = re.compile(r"[0-9a-f-]+")


def resolve(client: Magpie, text: str) -> str:
    """Return the id of the job that `text` means.

    Raises:
        InvalidInput: too short, or several jobs begin with it.
        JobNotFound: no job begins with it.
    """
    prefix = text.strip().lower()
    if len(prefix) >= _FULL or not _PREFIX.fullmatch(prefix):
        return text  # the client says what is wrong with it
    if len(prefix) < LEAST:
        raise InvalidInput("ID", text, f"give at least {LEAST} characters of a job's id")
    matches = [identity for identity in newest(client) if identity.startswith(prefix)]
    if not matches:
        raise JobNotFound(f"There is no job {text!r} among the newest {REACH}.")
    if len(matches) > 1:
        shown = ", ".join(matches[:5]) + (", …" if len(matches) > 5 else "")
        raise InvalidInput("ID", text, f"several jobs begin with it: {shown}")
    return matches[0]


def newest(client: Magpie, reach: int = REACH) -> list[str]:
    """Return the ids of the newest jobs."""
    found: list[str] = []
    while len(found) < reach:
        page = client.jobs.list(limit=min(_PAGE, reach - len(found)), before=found[-1] if found else None)
        if not page:
            break
        found += (job.id for job in page)
    return found
