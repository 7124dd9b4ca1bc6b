"""Values that nobody may see: they are shown as `***` wherever a program shows what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from magpie_local.domain.spec import MAX_ENV_TOTAL, check_env_entry
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "***"
#: Shorter ones are not masked in output: too much that is no secret would be.
MIN_MASKED = 4


class Secrets(Mapping[str, str]):
    """Names and secret values; a mapping whose text shows the names alone.

    Raises:
        InvalidInput: a name is none, or a value can't be in an environment; never shows the value.
    """

    __slots__ = ("_values",)

    def __init__(self, values: object) -> None:
        #: Even a half-made one has a repr: a traceback may show it.
        self._values: dict[str, str] = {}
        problem = _problem(values)
        if problem is not None:
            del values  # a traceback may show what its frames hold
            raise InvalidInput(*problem)
        assert isinstance(values, Mapping)
        self._values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {MASK}" for name in self._values) + "}"


def _problem(values: object) -> tuple[str, str, str] | None:
    """Return what an error may say of the first value that is not allowed, if there is one."""
    if not isinstance(values, Mapping):
        return "secret_env", type(values).__name__, "a mapping of names to text"
    total = 0
    for key, value in values.items():
        try:
            total += check_env_entry("secret_env", key, value)
        except InvalidInput as error:
            return (f"secret_env[{key!r}]" if isinstance(key, str) else "secret_env"), MASK, error.allowed
    if total > MAX_ENV_TOTAL:
        return "secret_env", f"{len(values)} entries", f"at most {MAX_ENV_TOTAL} bytes in all, these have {total}"
    return None
