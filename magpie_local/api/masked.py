"""A command's output without the secrets that it was given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from magpie_local.guest.agent.forms import foldable, forms
from magpie_local.guest.agent.masking import Masking
from magpie_local.ports.shell import OUTPUT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from magpie_local.ports.shell import OnOutput, ShellResult, Stream


class MaskedOutput:
    """Takes a command's output as it comes (OnOutput), and lets no secret through.

    Args:
        secrets: the values; those with fewer than four characters are let through.
        on_output: told of what may be seen.
        limit: most bytes of each stream that are kept.
    """

    def __init__(self, secrets: Iterable[str], on_output: OnOutput | None, limit: int = OUTPUT_LIMIT) -> None:
        values = list(secrets)
        searched, folded = forms(values), foldable(values)
        self._masks: dict[Stream, Masking] = {
            "stdout": Masking(searched, folded), "stderr": Masking(searched, folded),
        }  # fmt: skip
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._on_output = on_output
        self._limit = limit
        self._truncated = False

    def __call__(self, stream: Stream, data: bytes) -> None:
        """Take a piece of output."""
        self._give(stream, self._masks[stream].feed(data))

    def result(self, result: ShellResult) -> ShellResult:
        """Return how the command ended, with the output that was taken; there is no more."""
        for stream, masking in self._masks.items():
            self._give(stream, masking.finish())
        out, err = (bytes(kept) for kept in self._kept.values())
        return replace(result, stdout=out, stderr=err, truncated=self._truncated)

    def _give(self, stream: Stream, shown: bytes) -> None:
        if not shown:
            return
        kept = self._kept[stream]
        room = self._limit - len(kept)
        kept += shown[:room]
        self._truncated |= len(shown) > room
        if self._on_output is not None:
            self._on_output(stream, shown)
