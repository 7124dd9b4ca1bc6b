"""What a cell's line may say, and what it says of a line that is wrong."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

from notebook_ext.options import BY_NAME, OPTIONS, CellOptions, help_text, parse


def test_nothing_said_is_the_usual():
    assert parse("") == CellOptions()


def test_all_options_are_read():
    wish = parse(
        "--name 'a b' --vcpus 2 --memory 4GB --timeout 5m -w data --size 20GB --persistent --image big --network none "
        "-e A -e 'B=two words' --secret KEY --put x:y --get 'out/*' -o job --bg --no-raise -q --again "
        "--python --in a --in b --out c"
    )

    assert wish == CellOptions(
        name="a b", vcpus=2, memory=4096, timeout=300.0, workspace="data", size=20, persistent=True, image="big",
        network="none", env=("A", "B=two words"), secret=("KEY",), put=("x:y",), get=("out/*",), output="job", bg=True,
        no_raise=True, quiet=True, again=True, python=True, into=("a", "b"), out=("c",),
    )  # fmt: skip


def test_a_value_may_stand_behind_an_equals_sign():
    assert parse("--memory=512 --env=A=b=c") == CellOptions(memory=512, env=("A=b=c",))


def test_a_bare_number_of_memory_is_mb_and_of_disk_gb():
    assert (parse("--memory 700").memory, parse("--size 7").size) == (700, 7)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("--memroy 4GB", "did you mean --memory?"),
        ("--detach", "unknown"),
        ("--memory", "--memory SIZE"),
        ("--memory lots", "512MB"),
        ("--vcpus two", "whole number"),
        ("--bg=yes", "takes no value"),
        ("-o not-a-name", "Python variable"),
        ("ls -l", "below this line"),
        ("--name 'open", "close the quote"),
        ("--in not-a-name", "the name of a Python variable"),
        ("--out class", "the name of a Python variable"),
        ("--python=3", "takes no value"),
    ],
)
def test_a_wrong_line_is_one_line_that_says_what_to_type(line, word):
    with pytest.raises(UsageError, match=r"^%%magpie: [^\n]*$") as caught:
        parse(line)

    assert word in str(caught.value)


def test_every_option_has_a_field_and_stands_in_the_help():
    assert {option.key for option in OPTIONS} == set(CellOptions.__dataclass_fields__)
    assert [name for name in BY_NAME if name not in help_text()] == []
    assert help_text().count("  %%magpie") == 3
