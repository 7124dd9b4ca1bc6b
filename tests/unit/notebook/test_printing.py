"""A job's output on the cell's streams: in order, in few pieces, and not without end."""

from __future__ import annotations

import pytest

from magpie_local import LogChunk
from notebook_ext.printing import Printer


def chunk(text: str, stream: str = "stdout") -> LogChunk:
    return LogChunk(time=0.0, stream=stream, data=text.encode(), text=text)


def test_streams_go_where_they_belong(capsys):
    Printer(100, "j" * 36).write([chunk("a\n"), chunk("b\n", "stderr"), chunk("[dropped]\n", "note")])

    assert capsys.readouterr() == ("a\n", "b\n[dropped]\n")


@pytest.mark.parametrize(("changes", "order"), [(3, "kept"), (100, "by stream")])
def test_a_batch_is_few_writes(monkeypatch, changes, order):
    written: list[tuple[str, str]] = []
    monkeypatch.setattr("notebook_ext.printing._write", lambda stream, text: written.append((stream, text)))

    Printer(1000, "j" * 36).write(chunk(f"{i}\n", ("stdout", "stderr")[i % 2]) for i in range(changes))

    assert len(written) == (3 if order == "kept" else 2)
    assert "".join(text for _, text in written).count("\n") == changes


@pytest.mark.parametrize("text", ["line\n" * 50, "x" * 100_000])
def test_there_is_an_end_to_it_and_a_word_on_the_rest(capsys, text):
    printer = Printer(10, "12345678-aaaa")

    printer.write([chunk(text)])
    printer.write([chunk("more\n")])

    out, err = capsys.readouterr()
    assert len(out) <= 2000
    assert out.count("\n") <= 10
    assert "more" not in out
    assert "%magpie logs 12345678" in err


def test_exactly_as_much_as_there_is_room_for_is_printed_whole(capsys):
    Printer(10, "j" * 36).write([chunk("line\n" * 10)])

    assert capsys.readouterr() == ("line\n" * 10, "")


def test_the_last_lines_of_stderr_are_kept(capsys):
    printer = Printer(1000, "j" * 36)

    printer.write([chunk("no\n"), *(chunk(f"{i}\n", "stderr") for i in range(20)), chunk("half", "stderr")])

    assert printer.last_errors() == [*map(str, range(11, 20)), "half"]
