"""What a cell takes along of its notebook, and brings back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError

from notebook_ext import values


def test_a_bare_key_takes_the_variable_of_that_name():
    variables = {"n": 3, "f": 0.5, "s": "a b", "p": Path("/x"), "d": {"a": [1, None]}, "t": True}

    found = values.environment(["n", "f", "s", "p", "d", "t", "X=y=z", "EMPTY="], variables)

    assert found == {
        "n": "3", "f": "0.5", "s": "a b", "p": "/x", "d": '{"a": [1, null]}', "t": "true", "X": "y=z", "EMPTY": "",
    }  # fmt: skip


def test_a_key_without_a_variable_is_that_of_our_environment(monkeypatch):
    monkeypatch.setenv("FROM_OUTSIDE", "yes")

    assert values.environment(["FROM_OUTSIDE"], {}) == {"FROM_OUTSIDE": "yes"}


@pytest.mark.parametrize(
    ("entry", "variables", "word"),
    [("epoch", {"epochs": 1}, "did you mean epochs?"), ("x", {}, "-e x=VALUE"), ("x", {"x": object()}, "--put")],
)
def test_what_can_not_be_carried_says_what_to_do(entry, variables, word):
    with pytest.raises(UsageError, match=word):
        values.environment([entry], variables)


def test_secrets_come_from_variables_and_are_never_shown(monkeypatch):
    monkeypatch.setenv("OTHER", "second")

    assert values.secrets(["KEY", "OTHER"], {"KEY": "first"}) == {"KEY": "first", "OTHER": "second"}
    with pytest.raises(UsageError) as caught:
        values.secrets(["KEY=hunter2"], {})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UsageError, match="getpass"):
        values.secrets(["MISSING"], {})


def test_uploads_are_named_by_their_source_or_as_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / "odd:name").touch()

    assert values.uploads(["a.txt", "a.txt:data/b.txt", "odd:name"]) == {
        "a.txt": Path("a.txt"), "data/b.txt": Path("a.txt"), "odd:name": Path("odd:name"),
    }  # fmt: skip
    with pytest.raises(UsageError, match="missing"):
        values.uploads(["missing:x"])


@pytest.mark.parametrize(
    ("entry", "collected", "expected"),
    [
        ("out.csv", {"out.csv"}, {"out.csv"}),
        ("out.csv:other.csv", {"out.csv"}, {"other.csv"}),
        ("out.csv:there/", {"out.csv"}, {"there/out.csv"}),
        ("data/*.csv", {"data/a.csv", "data/b.csv"}, {"a.csv", "b.csv"}),
        ("data/*.csv:all", {"data/a.csv"}, {"all/a.csv"}),
        ("data", {"data/a", "data/deep/b"}, {"data/a", "data/deep/b"}),
        ("data:mine", {"data/a", "data/deep/b"}, {"mine/a", "mine/deep/b"}),
        ("/var/log/x", {"var/log/x"}, {"x"}),
        ("other", {"out.csv"}, set()),
    ],
)
def test_what_was_collected_goes_where_it_is_wanted(tmp_path, monkeypatch, entry, collected, expected):
    monkeypatch.chdir(tmp_path)
    outputs: Any = SimpleNamespace(
        list=lambda: [SimpleNamespace(path=path) for path in sorted(collected)], read=lambda path: path.encode()
    )
    client: Any = SimpleNamespace(jobs=SimpleNamespace(outputs=lambda _id: outputs))

    job: Any = SimpleNamespace(id="1")

    written = values.fetch(client, job, [entry])

    assert {str(path) for path in written} == expected
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == expected
