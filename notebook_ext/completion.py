"""Completion by TAB: options, verbs, jobs, workspaces, images."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from IPython.core.completer import SimpleCompletion, context_matcher
from IPython.core.getipython import get_ipython

from notebook_ext.line import FLAGS, VERBS
from notebook_ext.options import BY_NAME, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from notebook_ext.session import Session

    Matcher = Callable[[CompletionContext], SimpleMatcherResult]

_CELL, _LINE = "%%magpie", "%magpie"
_JOBS = 100


class Completion:
    """Completes the words of one session's magics."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sources: dict[str, Callable[[], Iterable[str]]] = {
            "jobs": self._jobs, "workspaces": self._workspaces, "images": self._images, "variables": _variables,
        }  # fmt: skip

    def words(self, line: str) -> list[str] | None:
        """Return what may stand where a line ends; None where it is no line of ours."""
        head, *others = line.split(" ")
        if not others or head not in (_CELL, _LINE):
            return None
        before, word = [part for part in others[:-1] if part], others[-1]
        candidates = self._of_cell(before, word) if head == _CELL else self._of_line(before)
        return [candidate for candidate in candidates if candidate.startswith(word)]

    def matcher(self) -> Matcher:
        """Return the function for IPython's completer."""

        @context_matcher(identifier="magpie")  # type: ignore[untyped-decorator]
        def magpie_matcher(context: CompletionContext) -> SimpleMatcherResult:
            found = self.words(_line_before_cursor(context))
            if found is None:
                return {"completions": []}
            # The names of Python mean nothing here.
            whole = [SimpleCompletion(text=one, type="magpie") for one in found]
            return {"completions": whole, "suppress": True, "matched_fragment": _fragment(context)}

        return cast("Matcher", magpie_matcher)

    def _of_cell(self, before: list[str], word: str) -> Iterable[str]:
        last = BY_NAME.get(before[-1]) if before else None
        if last is not None and last.metavar:
            return self._ask(last.values)
        name, equals, _ = word.partition("=")
        if equals and name in BY_NAME:
            return [f"{name}={value}" for value in self._ask(BY_NAME[name].values)]
        used = {name for part in before if (one := BY_NAME.get(part.partition("=")[0])) for name in one.names}
        return [name for one in OPTIONS if one.many or one.names[-1] not in used for name in one.names]

    def _of_line(self, before: list[str]) -> Iterable[str]:
        if not before:
            return VERBS
        takes = VERBS.get(before[0], ("", ""))[0]
        return [*FLAGS.get(before[0], ()), *(self._ask("jobs") if "ID" in takes else ())]

    def _ask(self, source: str) -> Iterable[str]:
        with contextlib.suppress(Exception):  # whoever waits for TAB has no place for an error
            if source in self._sources and (source == "variables" or self._session.exists()):
                return list(self._sources[source]())
        return []

    def _jobs(self) -> Iterable[str]:
        return [job.id for job in self._session.client.jobs.list(limit=_JOBS)]

    def _workspaces(self) -> Iterable[str]:
        return [one.id for one in self._session.client.workspaces.list()]

    def _images(self) -> Iterable[str]:
        folder = self._session.settings().images
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _variables() -> Iterable[str]:
    """Return the names of the user's variables."""
    shell = get_ipython()
    hidden = {} if shell is None else shell.user_ns_hidden
    names = [] if shell is None else [name for name in shell.user_ns if not name.startswith("_")]
    return sorted(name for name in names if name not in hidden)


def _line_before_cursor(context: CompletionContext) -> str:
    """Return the cursor's line up to it; of a cell magic only the first line is ours."""
    lines = context.full_text[: context.cursor_position].split("\n")
    return "" if lines[0].startswith(_CELL) and len(lines) > 1 else lines[-1]


def _fragment(context: CompletionContext) -> str:
    return _line_before_cursor(context).rpartition(" ")[2]
