"""The comparison of forks: whatever is equal in two of them is found, whatever else is true."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from magpie_local.domain.forkproof import CLOCK_TOLERANCE, ITEMS, PROBE, ForkFacts, facts_of, prove

FINE = {"before": None, "after": None}
BEGAN, ENDED = 1000.0, 1010.0


def facts(number: int, **changes: object) -> dict[str, Any]:
    """Return what a clean fork tells."""
    uuid = f"{number:08x}-0000-4000-8000-00000000000"
    usual: dict[str, Any] = {
        "clock": 1005.0, "urandom": f"{number:064x}", "getrandom": f"{number + 100:064x}", "kernel_uuid": f"{uuid}1",
        "python_random": f"0.{number}1 0.{number}2", "python_uuid4": f"{uuid}2", "openssl": f"{number:032x}",
        "bash_random": f"{number} 2 3 4", "bash_srandom": f"{number} 7", "hostname": f"magpie-{number}",
        "machine_id": f"{number + 500:032x}", "boot_id": f"{uuid}3", "ssh_host_key": f"ssh-ed25519 {number:068d}",
        "mac": f"52:54:00:00:00:{number:02x}",
    }  # fmt: skip
    return usual | changes


def said(number: int, start: str | None = "fork", **changes: object) -> ForkFacts:
    return ForkFacts(job_id=f"{number:08d}-job", start=start, after=BEGAN, before=ENDED, facts=facts(number, **changes))


def failures(proof: Any) -> list[str]:
    return [check.name for check in proof.checks if not check.ok]


def test_clean_forks_pass_every_check() -> None:
    proof = prove("abc", [said(1), said(2, "pool"), said(3)], FINE)

    assert proof.ok
    assert {check.name for check in proof.checks} >= ITEMS.keys()
    assert str(proof).endswith("3 forks of the template abc are clean")


@pytest.mark.parametrize("item", ITEMS)
def test_each_single_thing_that_two_forks_share_is_found(item: str) -> None:
    twin: dict[str, Any] = {item: facts(2)[item]}

    proof = prove("abc", [said(1), said(2), said(3), said(4, **twin)], FINE)

    assert failures(proof) == [item]
    (check,) = (check for check in proof.checks if check.name == item)
    assert check.detail == "equal in 00000002 and 00000004"


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("value", ["", "!", None, 5, "\n"])
def test_a_thing_without_its_form_is_found_although_it_differs(item: str, value: Any) -> None:
    odd: dict[str, Any] = {item: value}

    assert failures(prove("abc", [said(1), said(2, **odd)], FINE)) == [item]


@pytest.mark.parametrize("item", ITEMS)
def test_a_thing_that_no_fork_has_is_no_proof(item: str) -> None:
    none: dict[str, Any] = {item: ""}

    assert failures(prove("abc", [said(1, **none), said(2, **none)], FINE)) == [item]


@pytest.mark.parametrize(
    ("clock", "word"),
    [(BEGAN - CLOCK_TOLERANCE - 0.1, "behind"), (ENDED + CLOCK_TOLERANCE + 0.1, "ahead"), (None, "no time")],
)
def test_a_clock_that_is_wrong_is_found(clock: object, word: str) -> None:
    proof = prove("abc", [said(1), said(2, clock=clock)], FINE)

    assert failures(proof) == ["clock"]
    assert word in str(proof)


@pytest.mark.parametrize("clock", [BEGAN - CLOCK_TOLERANCE, ENDED + CLOCK_TOLERANCE])
def test_a_clock_within_the_tolerance_is_right(clock: float) -> None:
    assert prove("abc", [said(1), said(2, clock=clock)], FINE).ok


@pytest.mark.parametrize("start", ["cold", None])
def test_a_vm_that_booted_proves_nothing(start: str | None) -> None:
    assert failures(prove("abc", [said(1), said(2, start)], FINE)) == ["started from the template"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_template_that_changed_is_found(when: str) -> None:
    proof = prove("abc", [said(1), said(2)], {**FINE, when: "ram has another checksum"})

    assert failures(proof) == ["template unchanged"]
    assert f"{when}: ram has another checksum" in str(proof)


def test_the_result_is_plain_json() -> None:
    result = json.loads(json.dumps(prove("abc", [said(1), said(1)], FINE).to_json()))

    assert (result["ok"], result["n"], result["template"]) == (False, 2, "abc")
    assert {"name": "hostname", "ok": False, "detail": "equal in 00000001 and 00000001"} in result["checks"]


@pytest.mark.parametrize("output", ["", "no json", "[1]", '{"half": '])
def test_output_that_is_no_probes_counts_as_nothing(output: str) -> None:
    assert facts_of(output) == {}


def test_the_probe_tells_everything_that_is_compared() -> None:
    began = time.time()

    done = subprocess.run(["bash", "-c", PROBE], capture_output=True, text=True, check=True)
    told = facts_of(done.stdout)

    assert set(told) == {*ITEMS, "clock"}
    assert began - 1 <= float(str(told["clock"])) <= time.time() + 1
    proof = prove("abc", [ForkFacts(job_id="1", start="fork", after=began, before=time.time(), facts=told)], FINE)
    # Not every machine that runs tests has these; a guest does.
    assert set(failures(proof)) <= {"machine_id", "ssh_host_key", "mac"}
