"""Where `--secret` takes values from, and that no error tells one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from magpie_local.cli.secrets import secret_environment
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "Vq7secret2f9c"


def test_a_value_comes_out_of_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN", VALUE)
    (tmp_path / "a@b=c").write_text(f"{VALUE}\n\n")

    assert dict(secret_environment(("TOKEN", f"OTHER@{tmp_path}/a@b=c")) or {}) == {
        "TOKEN": VALUE,
        "OTHER": VALUE + "\n",
    }
    assert "TOKEN" not in os.environ  # or the processes that we start would have it


def test_none_is_none() -> None:
    assert secret_environment(()) is None


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((f"TOKEN={VALUE}",), "--secret KEY@FILE"),
        ((f"TOKEN={VALUE}@home",), "--secret KEY@FILE"),
        (("TOKEN@/nowhere/file",), "No such file"),
        (("TOKEN@/",), "Is a directory"),
        (("TOKEN@{binary}",), "no text in UTF-8"),
        (("TOKEN@{nul}",), "NUL"),
        (("NOT_SET",), "export it, or KEY@FILE"),
        (("",), "export it, or KEY@FILE"),
        (("@{good}",), "a name is letters"),
        (("1KEY@{good}",), "a name is letters"),
        (("TOKEN@{good}", "TOKEN@{good}"), "named twice"),
    ],
)
def test_an_error_names_the_cure_and_no_value(tmp_path: Path, entries: tuple[str, ...], said: str) -> None:
    for name, content in (("binary", b"\xfe" + VALUE.encode()), ("nul", f"{VALUE}\0".encode()), ("good", b"x")):
        (tmp_path / name).write_bytes(content)
    files = {name: str(tmp_path / name) for name in ("binary", "nul", "good")}

    with pytest.raises(InvalidInput) as caught:
        secret_environment(tuple(entry.format(**files) for entry in entries))

    assert said in str(caught.value)
    assert VALUE not in str(caught.value)
    assert "0xfe" not in str(caught.value)
    assert "\n" not in caught.value.message
