from __future__ import annotations

import uuid

import pytest

from magpie_local.domain.ids import new_job_id, new_vm_id, parse_job_id
from magpie_local.errors import JobNotFound


def test_fresh_ids_are_dashed_uuids_and_differ():
    ids = {new_job_id() for _ in range(100)} | {str(new_vm_id()) for _ in range(100)}

    assert len(ids) == 200
    assert all(str(uuid.UUID(text)) == text for text in ids)


def test_an_id_is_read_whatever_its_case():
    job_id = new_job_id()

    assert parse_job_id(job_id.upper()) == job_id


@pytest.mark.parametrize(
    "text",
    [
        "job_abc123xyz", "", "../../etc", str(uuid.uuid4()) + "\n", uuid.uuid4().hex, f"{{{uuid.uuid4()}}}",
        "<b>", "\0", None, 5, uuid.uuid4(), b"job", "x" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_id_is_a_job_that_does_not_exist(text):
    with pytest.raises(JobNotFound) as caught:
        parse_job_id(text)

    assert len(str(caught.value)) < 300
    assert "magpie ps" in caught.value.hint
