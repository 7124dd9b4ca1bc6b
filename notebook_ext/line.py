"""`%magpie VERB`: the command line's verbs, shown as a notebook shows things."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from magpie_local.view import tables
from magpie_local.view.table_html import jobs_html, workspaces_html
from notebook_ext.background import Background
from notebook_ext.cell import Foreground, Manner
from notebook_ext.frontend import publish
from notebook_ext.interrupts import Presses
from notebook_ext.printing import Printer
from notebook_ext.run import MANY
from notebook_ext.short import unknown, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from magpie_local import Job
    from notebook_ext.magics import MagpieMagics

#: Verb -> what it takes, and what it does.
VERBS = {
    "ps": ("[-a]", "jobs that wait and run; -a: those that ended, too"),
    "logs": ("ID [-f] [--tail N]", "a job's output; -f: and what comes"),
    "attach": ("ID [--bg]", "show a job as the cell that started it would"),
    "stop": ("ID...", "stop jobs"),
    "rm": ("ID... [--force]", "delete jobs and their logs; --force stops them first"),
    "workspaces": ("", "disks that outlive jobs"),
    "vms": ("", "jobs that have a VM now"),
    "doctor": ("", "what this machine lacks to run jobs"),
    "config": ("", "the settings and where they come from"),
}
#: Verb -> the flags it knows.
FLAGS = {
    "ps": {"-a": "all", "--all": "all"},
    "logs": {"-f": "follow", "--follow": "follow"},
    "attach": {"--bg": "bg"},
    "rm": {"--force": "force", "-f": "force"},
}
_IDS = "An ID may be its first characters, four at least, or a variable that holds a Job."
_ALIVE = {"booting", "ready", "paused", "asleep", "stopping"}
_MOST = 1000


def help_text() -> str:
    """Return all verbs, a line each."""
    rows = [(f"  %magpie {verb} {takes}".rstrip(), text) for verb, (takes, text) in VERBS.items()]
    return f"Look after jobs.\n\n{tables.table((), rows)}\n\n{_IDS}"


class LineMagic:
    """The verbs of one kernel."""

    def __init__(self, magics: MagpieMagics) -> None:
        self._magics = magics

    def run(self, line: str) -> None:
        """Carry out one line.

        Raises:
            UsageError: it says something that means nothing.
            MagpieError: as the client's verb.
        """
        try:
            verb, *words = shlex.split(line) or ["help"]
        except ValueError as error:
            raise usage(f"%magpie: {str(error).lower()} in {line!r}; close the quote") from None
        if verb in ("help", "-h", "--help"):
            print(help_text())
            return
        if verb not in VERBS:
            raise unknown("%magpie: verb", verb, VERBS, f"verbs are {', '.join(VERBS)}")
        call: Callable[..., None] = getattr(self, f"_{verb}")
        call(*_positional(verb, words), **_flags(verb, words))

    # Verbs

    def _ps(self, *, all: bool = False) -> None:
        jobs = self._magics.session.client.jobs
        if all:
            return self._show_jobs(jobs.list(limit=_MOST))
        found = [job for status in ("running", "pending") for job in jobs.list(limit=_MOST, status=status)]
        return self._show_jobs(sorted(found, key=lambda job: job.created_at, reverse=True))

    def _vms(self) -> None:
        jobs = self._magics.session.client.jobs.list(limit=_MOST)
        self._show_jobs([job for job in jobs if job.vm_state in _ALIVE])

    def _workspaces(self) -> None:
        found = self._magics.session.client.workspaces.list()
        self._show(workspaces_html(found), tables.table_text(tables.workspaces_table(found)))

    def _logs(self, job_id: str, *, follow: bool = False, tail: str | None = None) -> None:
        client = self._magics.session.client
        identity = self._id(job_id)
        if not follow:
            print(client.jobs.get_logs(identity, tail=_count(tail)), end="")
            return
        printer = Printer(self._magics.tail_lines * MANY, identity)
        try:
            for chunk in client.jobs.stream_logs(identity):
                printer.write([chunk])
        except KeyboardInterrupt:
            return  # the user has seen enough; the job goes on

    def _attach(self, job_id: str, *, bg: bool = False) -> None:
        magics = self._magics
        job = magics.session.client.jobs.get(self._id(job_id))
        notebook = magics.frontend.is_notebook
        if bg and notebook and magics.frontend.is_interactive:
            Background(magics.session, lines=magics.tail_lines, live=magics.live).show(job)
            return
        manner = Manner(
            is_notebook=notebook, most_lines=magics.tail_lines * MANY, live=magics.live, raises=magics.raise_on_error
        )
        with Presses() as presses:
            Foreground(magics.session, manner, presses).show(job)

    def _stop(self, *job_ids: str) -> None:
        client = self._magics.session.client
        for identity in [self._id(job_id) for job_id in job_ids]:
            print(client.jobs.stop(identity))

    def _rm(self, *job_ids: str, force: bool = False) -> None:
        client = self._magics.session.client
        for identity in [self._id(job_id) for job_id in job_ids]:
            print(client.jobs.delete(identity, force=force))

    def _doctor(self) -> None:
        from magpie_local.doctor import examine

        for need in examine(self._magics.session.settings()):
            print(f"{'ok ' if need.ok else 'NO '} {need.name}: {need.detail}")
            if not need.ok and need.cure:
                print(f"    cure: {need.cure}")

    def _config(self) -> None:
        settings, magics = self._magics.session.settings(), self._magics
        rows = [(key, str(value), settings.origins[key]) for key, value in settings.values().items()]
        print(tables.table(("SETTING", "VALUE", "FROM"), rows))
        print("\n%config MagpieMagics.NAME = VALUE sets these:")
        print(tables.table((), [(name, repr(getattr(magics, name))) for name in magics.TRAITS]))

    def _id(self, word: str) -> str:
        return self._magics.session.job_id(word, self._magics.shell.user_ns)

    # Showing

    def _show_jobs(self, jobs: Sequence[Job]) -> None:
        self._show(jobs_html(jobs), tables.table_text(tables.jobs_table(jobs)) if jobs else "no jobs")

    def _show(self, html: str, text: str) -> None:
        if self._magics.frontend.is_notebook:
            publish({"text/plain": text, "text/html": html})
        else:
            print(text, file=sys.stdout)


def _flags(verb: str, words: list[str]) -> dict[str, Any]:
    known: dict[str, str] = FLAGS.get(verb, {})
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if verb == "logs" and name == "--tail":
            found["tail"] = value if equals else next(rest, "")
        elif word.startswith("-"):
            if word not in known:
                raise unknown(f"%magpie {verb}: option", word, known, f"write %magpie {verb} {VERBS[verb][0]}")
            found[known[word]] = True
    return found


def _positional(verb: str, words: list[str]) -> list[str]:
    found, rest = [], iter(words)
    for word in rest:
        if word == "--tail":
            next(rest, None)
        elif not word.startswith("-"):
            found.append(word)
    takes = VERBS[verb][0]
    least, most = ("ID" in takes), (0 if "ID" not in takes else None if "ID..." in takes else 1)
    if len(found) < least or (most is not None and len(found) > most):
        raise usage(f"%magpie {verb}: write %magpie {verb} {takes}".rstrip())
    return found


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise usage(f"%magpie logs: --tail {text!r} is not allowed; write a whole number")
    return int(text)
