from __future__ import annotations

import pytest

from magpie_local.cli.quantities import DURATION, MEMORY, SIZE, environment, in_mib
from magpie_local.errors import InvalidInput


@pytest.mark.parametrize(("text", "mib"), [("512", 512), ("4GB", 4096), ("1.5 GiB", 1536), ("1000KB", 1)])
def test_memory_is_given_with_a_unit_or_in_mib(text: str, mib: int) -> None:
    assert in_mib(MEMORY.convert(text, None, None)) == mib


def test_a_bare_size_counts_bytes() -> None:
    assert SIZE.convert("65536", None, None) == 65536


@pytest.mark.parametrize("text", ["4 bananas", "-5", "", "٣", "9" * 100, "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="512MB"):
        MEMORY.convert(text, None, None)


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300.0), ("90", 90.0), ("250ms", 0.25)])
def test_a_duration_is_given_with_a_unit_or_in_seconds(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


def test_an_environment_entry_keeps_everything_after_the_first_equals_sign() -> None:
    assert environment(("A=b=c", "B=", "C=x\ny $(z)")) == {"A": "b=c", "B": "", "C": "x\ny $(z)"}


def test_a_bare_name_passes_our_own_value_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_FOR_TEST", "value")

    assert environment(("TOKEN_FOR_TEST",)) == {"TOKEN_FOR_TEST": "value"}


def test_a_bare_name_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_FOR_TEST", raising=False)

    with pytest.raises(InvalidInput, match="TOKEN_FOR_TEST"):
        environment(("TOKEN_FOR_TEST",))
