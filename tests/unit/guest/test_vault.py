"""Secrets at rest: of use only with the key, for the job that they were sealed for; each trouble names its cure."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from magpie_local.domain.ids import new_job_id
from magpie_local.domain.secret import Secrets
from magpie_local.errors import HostError, SecretsLost
from magpie_local.guest.vault import FileVault

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.ports.vault import Vault

VALUES = {"TOKEN": "Vq7secret2f9c", "MULTI": 'two\nlines "ü"', "EMPTY": ""}
JOB = new_job_id()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "config" / "secret.key"


def test_what_is_sealed_is_opened_by_every_vault_with_the_key(key: Path) -> None:
    vault: Vault = FileVault(key)
    box = vault.seal(JOB, Secrets(VALUES))

    assert FileVault(key).open(JOB, box) == VALUES


def test_sealed_it_says_nothing_and_never_the_same_twice(key: Path) -> None:
    boxes = [FileVault(key).seal(JOB, VALUES) for _ in range(2)]

    assert boxes[0] != boxes[1]
    assert not [box for box in boxes if b"secret" in box or b"TOKEN" in box]


def test_the_key_is_for_its_owner_alone_and_lies_in_a_folder_that_is_too(key: Path) -> None:
    before = os.umask(0)
    try:
        FileVault(key).seal(JOB, VALUES)
    finally:
        os.umask(before)

    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in key.parent.iterdir()] == ["secret.key"]


def test_processes_that_need_the_first_key_at_once_agree_on_one(key: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from magpie_local.guest.vault import FileVault; sys.stdin.read(1);"
        "sys.stdout.buffer.write(FileVault(Path(sys.argv[1])).seal(sys.argv[2], {'A': 'b'}))"
    )
    command = [sys.executable, "-c", program, str(key), JOB]
    sealing = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in sealing:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()

    assert [FileVault(key).open(JOB, process.communicate()[0]) for process in sealing] == [{"A": "b"}] * 4


@pytest.mark.parametrize(
    ("ruin", "said"),
    [
        (lambda key: key.unlink(), "There is no key"),
        (lambda key: key.write_bytes(bytes(32)), "is not the key that they were sealed with"),
        (lambda key: key.write_bytes(b"short"), "has 5 bytes"),
        (lambda key: (key.unlink(), key.mkdir()), "Is a directory"),
    ],
    ids=["gone", "another", "short", "a folder"],
)
def test_without_the_key_the_error_says_what_is_wrong_with_it_and_what_to_do(key: Path, ruin, said: str) -> None:
    box = FileVault(key).seal(JOB, VALUES)
    ruin(key)

    with pytest.raises(SecretsLost) as caught:
        FileVault(key).open(JOB, box)

    assert said in caught.value.message
    assert str(key) in caught.value.message
    assert JOB in caught.value.message
    assert "Create the job again" in caught.value.hint
    assert caught.value.__cause__ is None


def test_a_lost_key_is_not_made_anew_to_open_what_it_can_not(key: Path) -> None:
    box = FileVault(key).seal(JOB, VALUES)
    key.unlink()
    with pytest.raises(SecretsLost):
        FileVault(key).open(JOB, box)

    assert not key.exists()


def test_a_box_is_of_no_use_for_another_job_or_when_it_was_changed(key: Path) -> None:
    box = FileVault(key).seal(JOB, VALUES)

    for job, content in ((new_job_id(), box), (JOB, box[:-1] + bytes([box[-1] ^ 1])), (JOB, b""), (JOB, box[:12])):
        with pytest.raises(SecretsLost):
            FileVault(key).open(job, content)


@pytest.mark.parametrize(
    ("ruin", "cure"),
    [
        (lambda key: (key.parent.mkdir(), key.write_bytes(b"short")), "Remove it"),
        (lambda key: key.parent.write_bytes(b"a file is in the way"), "XDG_CONFIG_HOME"),
        (lambda key: (key.parent.mkdir(), key.mkdir()), "XDG_CONFIG_HOME"),
    ],
    ids=["short", "no folder", "a folder"],
)
def test_a_key_that_can_not_be_used_or_made_is_an_error_whose_traceback_shows_no_secret(
    key: Path, ruin, cure: str
) -> None:
    ruin(key)

    with pytest.raises(HostError) as caught:
        FileVault(key).seal(JOB, Secrets(VALUES))

    assert cure in caught.value.hint
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "vault.py" in shown
    assert not [value for value in ("Vq7secret2f9c", "two") if value in shown.replace(__file__, "").split("VALUES")[0]]
