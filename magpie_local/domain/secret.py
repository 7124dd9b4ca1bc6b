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


class Veiled(Mapping[str, str]):
    """A mapping whose text shows the names alone."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values: dict[str, str] = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {MASK}" for name in self._values) + "}"


class Secrets(Veiled):
    """Names and secret values.

    Raises:
        InvalidInput: a name is none, or a value can't be in an environment; never shows the value.
    """

    __slots__ = ()

    def __init__(self, values: object) -> None:
        problem = _problem(values)
        if problem is not None:
            super().__init__({})
            del values  # a traceback may show what its frames hold, this half-made object included
            raise InvalidInput(*problem)
        assert isinstance(values, Mapping)
        super().__init__(values)


def beside(env: Mapping[str, str], secrets: Secrets) -> Mapping[str, str]:
    """Return both as one environment, which shows none of its values.

    Raises:
        InvalidInput: a name is in both.
    """
    if both := sorted(set(env) & set(secrets)):
        raise InvalidInput("secret_env", both[0], "a name is either in env or in secret_env")
    return Veiled({**env, **secrets})


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
