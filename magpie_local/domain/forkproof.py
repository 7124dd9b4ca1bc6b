"""The proof that forks of one template are no twins: what each one tells of itself, and what may be equal in none.

A fork begins with a copy of its template's memory. What was random or unique there would be the same in all of them,
had nobody renewed it; user-space generators would repeat each other as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds by which a fork's clock may lie outside the time in which its job ran.
CLOCK_TOLERANCE = 0.5
#: How a fork may have come to be; `cold` is none.
WARM = ("fork", "pool")

_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: What must differ, and its form.
ITEMS: Mapping[str, str] = {
    "urandom": "[0-9a-f]{64}",
    "getrandom": "[0-9a-f]{64}",
    "kernel_uuid": _UUID,
    "python_random": r"0\.\d+(e-\d+)? 0\.\d+(e-\d+)?",
    "python_uuid4": _UUID,
    "openssl": "[0-9a-f]{32}",
    "bash_random": r"\d+( \d+){3}",
    "bash_srandom": r"\d+ \d+",
    "hostname": r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}",
    "machine_id": "[0-9a-f]{32}",
    "boot_id": _UUID,
    "ssh_host_key": r"ssh-ed25519 [A-Za-z0-9+/]{60,}=*",
    "mac": "[0-9a-f]{2}(:[0-9a-f]{2}){5}( [0-9a-f]{2}(:[0-9a-f]{2}){5})*",
}

#: Runs in each fork, as any job does: one line of JSON. Only what bash itself draws is drawn by bash.
PROBE = r"""export BASH_RANDOM="$RANDOM $RANDOM $RANDOM $RANDOM" BASH_SRANDOM="$SRANDOM $SRANDOM"
exec python3 - <<'PROBE'
import glob, json, os, random, socket, subprocess, time, uuid

def text(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""

def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""

facts = {"clock": time.time()}
with open("/dev/urandom", "rb") as file:
    facts["urandom"] = file.read(32).hex()
facts["getrandom"] = os.urandom(32).hex()
facts["kernel_uuid"] = text("/proc/sys/kernel/random/uuid")
facts["python_random"] = f"{random.random()} {random.random()}"
facts["python_uuid4"] = str(uuid.uuid4())
facts["openssl"] = output("openssl", "rand", "-hex", "16")
facts["bash_random"], facts["bash_srandom"] = os.environ["BASH_RANDOM"], os.environ["BASH_SRANDOM"]
facts["hostname"] = socket.gethostname()
facts["machine_id"] = text("/etc/machine-id")
facts["boot_id"] = text("/proc/sys/kernel/random/boot_id")
facts["ssh_host_key"] = " ".join(text("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
cards = sorted(glob.glob("/sys/class/net/*/address"))
facts["mac"] = " ".join(text(card) for card in cards if "/lo/" not in card)
print(json.dumps(facts))
PROBE
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkFacts:
    """What one fork told."""

    job_id: str
    #: How its VM came to be: cold, fork or pool.
    start: str | None
    #: When its job was claimed and when it had ended, by the host's clock (seconds since the epoch).
    after: float
    before: float
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the proof."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkProof:
    """What became of a proof."""

    #: The forks that were compared.
    n: int
    #: The template's key.
    template: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        verdict = "are clean" if self.ok else "are NOT clean"
        lines = [f"{'ok ' if check.ok else 'NO '} {check.name}: {check.detail}" for check in self.checks]
        return "\n".join([*lines, f"{self.n} forks of the template {self.template} {verdict}"])

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return {"ok": self.ok, "n": self.n, "template": self.template, "checks": checks}


def facts_of(output: str) -> Mapping[str, object]:
    """Return what a probe printed; nothing where that is not its line of JSON."""
    try:
        facts = json.loads(output)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def prove(template: str, said: Sequence[ForkFacts], damage: Mapping[str, str | None]) -> ForkProof:
    """Compare what forks told.

    Args:
        template: its key.
        said: one of each fork.
        damage: when the template was compared with its checksums, and what was wrong with it then.
    """
    checks = [_started(said), _clocks(said)]
    checks += [_distinct(name, form, said) for name, form in ITEMS.items()]
    checks.append(_untouched(damage))
    return ForkProof(n=len(said), template=template, checks=tuple(checks))


def _started(said: Sequence[ForkFacts]) -> Check:
    ways = [one.start or "not at all" for one in said]
    detail = ", ".join(f"{ways.count(way)} {way}" for way in dict.fromkeys(ways))
    return Check(name="started from the template", ok=all(one.start in WARM for one in said), detail=detail)


def _clocks(said: Sequence[ForkFacts]) -> Check:
    off = {one.job_id: _off(one) for one in said}
    wrong = [f"{job_id[:8]} {_how_far(by)}" for job_id, by in off.items() if by is None or abs(by) > CLOCK_TOLERANCE]
    right = f"each within {CLOCK_TOLERANCE} s of its job's time on the host"
    return Check(name="clock", ok=not wrong, detail=", ".join(wrong) or right)


def _off(one: ForkFacts) -> float | None:
    """Return by how many seconds a fork's clock lies outside its job's time; None where it has none."""
    clock = one.facts.get("clock")
    if isinstance(clock, bool) or not isinstance(clock, (int, float)):
        return None
    return min(0.0, clock - one.after) + max(0.0, clock - one.before)


def _how_far(by: float | None) -> str:
    return "tells no time" if by is None else f"is {abs(by):.1f} s {'behind' if by < 0 else 'ahead'}"


def _distinct(name: str, form: str, said: Sequence[ForkFacts]) -> Check:
    values = [one.facts.get(name) for one in said]
    odd = [
        f"{one.job_id[:8]} has {value!r:.60}"
        for one, value in zip(said, values, strict=True)
        if not (isinstance(value, str) and re.fullmatch(form, value, re.ASCII))
    ]
    if odd:
        return Check(name=name, ok=False, detail=", ".join(odd))
    twins = [[one.job_id[:8] for one in said if one.facts[name] == value] for value in dict.fromkeys(values)]
    equal = [" and ".join(ids) for ids in twins if len(ids) > 1]
    detail = f"equal in {'; '.join(equal)}" if equal else f"{len(said)} different"
    return Check(name=name, ok=not equal, detail=detail)


def _untouched(damage: Mapping[str, str | None]) -> Check:
    wrong = [f"{when}: {what}" for when, what in damage.items() if what is not None]
    detail = "; ".join(wrong) or f"its files have their checksums, {' and '.join(damage)}"
    return Check(name="template unchanged", ok=not wrong, detail=detail)
