"""Values that nobody may see: no text, and no error, shows them."""

from __future__ import annotations

import pickle
import traceback

import pytest

from magpie_local.domain.secret import Secrets, beside
from magpie_local.domain.spec import MAX_ENV_ENTRY
from magpie_local.errors import InvalidInput

VALUE = "Vq7secret2f9c"


def test_its_text_shows_the_names_alone() -> None:
    secrets = Secrets({"TOKEN": VALUE, "OTHER": VALUE})

    for text in (repr(secrets), str(secrets), f"{secrets}", f"{[secrets]}", str(secrets.keys())):
        assert "TOKEN" in text
        assert VALUE not in text
    assert dict(secrets) == {"TOKEN": VALUE, "OTHER": VALUE}


@pytest.mark.parametrize(
    "values",
    [
        {"1KEY": VALUE}, {"TOKEN": VALUE + "\0"}, {"TOKEN": VALUE.encode()}, {"TOKEN": [VALUE]}, [VALUE], VALUE,
        {"TOKEN": VALUE + "\ud800"}, {"TOKEN": VALUE * MAX_ENV_ENTRY}, {5: VALUE}, {None: VALUE},
        {f"KEY{number}": VALUE * 9000 for number in range(10)},
    ],
    ids=["name", "NUL", "bytes", "list", "no mapping", "text", "surrogate", "large", "int", "None", "large in all"],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_without_being_shown(values: object) -> None:
    with pytest.raises(InvalidInput, match="secret_env") as caught:
        Secrets(values)

    (frame,) = [one for one in traceback.extract_tb(caught.tb) if one.filename.endswith("domain/secret.py")]
    assert frame.name == "__init__"
    last = caught.tb.tb_next
    assert last is not None
    assert VALUE not in repr(last.tb_frame.f_locals)
    assert VALUE not in str(caught.value)


def test_an_environment_with_secrets_beside_it_shows_no_value_of_either() -> None:
    whole = beside({"MODE": "fast"}, Secrets({"TOKEN": VALUE}))

    assert dict(whole) == {"MODE": "fast", "TOKEN": VALUE}
    assert repr(whole) == "{'MODE': ***, 'TOKEN': ***}"


def test_a_name_is_in_one_of_both() -> None:
    with pytest.raises(InvalidInput, match="either in env or in secret_env") as caught:
        beside({"TOKEN": "plain"}, Secrets({"TOKEN": VALUE}))

    assert VALUE not in str(caught.value)


def test_a_copy_through_pickle_keeps_the_veil() -> None:
    again = pickle.loads(pickle.dumps(Secrets({"TOKEN": VALUE})))

    assert again["TOKEN"] == VALUE
    assert VALUE not in repr(again)
