"""A state directory, processes that are killed on it, and the invariants that must hold (reliability.md 2.0)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
FINAL = {"succeeded", "failed", "timed_out", "stopped", "cancelled", "lost"}


@dataclass
class Rig:
    """One state directory and what was done to it."""

    home: Path
    tokens: Path
    env: dict[str, str]
    accepted: list[str] = field(default_factory=list)
    program: Path = CHILD
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    #: Seconds for what ends with its engine to have ended.
    patience: float = 3.0

    @classmethod
    def at(cls, folder: Path, **env: str) -> Rig:
        """Make one below `folder`, on the fake hypervisor unless `env` says otherwise; no keeper: dead means dead."""
        tokens = folder / "tokens"
        tokens.mkdir()
        home = folder / "state"
        settings = {"MAGPIE_HOME": str(home), "MAGPIE_HYPERVISOR": "fake", "MAGPIE_KEEPER": "false", **env}
        settings["MAGPIE_FAULT_LOG"] = str(folder / "points")
        return cls(home=home, tokens=tokens, env={**os.environ, **settings})

    def clean(self) -> None:
        """End the children that a failed test has left, and remove the run directory."""
        for child in self.children:
            with child:
                child.kill()
        shutil.rmtree(self.run, ignore_errors=True)

    def start(self, *arguments: str, crash_at: str = "") -> subprocess.Popen[str]:
        """Start a child process that shares nothing with this one but the state directory."""
        child = subprocess.Popen(
            [sys.executable, str(self.program), *arguments],
            env={**self.env, "MAGPIE_CRASH_AT": crash_at},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def submit(self, count: int = 1, style: str = "plain", *, crash_at: str = "") -> int:
        """Run a child that submits and waits; return its exit status (-9: killed)."""
        child = self.start("submit", str(count), style, str(self.tokens), crash_at=crash_at)
        return self.finish(child)

    def finish(self, child: subprocess.Popen[str], limit: float = 300) -> int:
        """Wait for a child, and note which ids it has seen."""
        out, _ = child.communicate(timeout=limit)
        self.accepted += [line.split()[1] for line in out.splitlines() if line.startswith("accepted ")]
        return child.returncode

    def recover(self, *, crash_at: str = "") -> int:
        """Run a child that drives what is left until nothing is."""
        return self.finish(self.start("recover", crash_at=crash_at))

    def story(self, job_id: str) -> list[str]:
        """Return the kinds of what happened to a job, in order."""
        with closing(sqlite3.connect(self.home / "magpie.db")) as db:
            found = db.execute(
                "SELECT kind FROM events JOIN jobs ON jobs.seq = job WHERE id = ? ORDER BY events.seq", (job_id,)
            )
            return [kind for (kind,) in found]

    def run_stateful(self, kind: str, name: str, *, crash_at: str = "") -> int:
        """Run a child that submits a job of that kind, and waits for its script's end."""
        return self.finish(self.start("run", kind, name, str(self.tokens), crash_at=crash_at))

    def stop(self, *, crash_at: str = "") -> int:
        """Run a child that stops all VMs that stay."""
        return self.finish(self.start("stop", crash_at=crash_at))

    def points(self) -> list[str]:
        """Return the fault points passed so far, in order."""
        log = Path(self.env["MAGPIE_FAULT_LOG"])
        return log.read_text().split() if log.exists() else []

    def jobs(self) -> dict[str, sqlite3.Row]:
        """Return the job rows, read without any code of ours."""
        with closing(sqlite3.connect(self.home / "magpie.db")) as db:
            db.row_factory = sqlite3.Row
            return {row["id"]: row for row in db.execute("SELECT * FROM jobs")}

    def starts(self) -> list[str]:
        """Return how the VM of each job came to be, in order."""
        return [row["start"] for row in sorted(self.jobs().values(), key=lambda row: row["seq"])]

    def check(self) -> None:
        """Assert the invariants on a state directory that has come to rest."""
        jobs = self.jobs()
        assert set(self.accepted) <= set(jobs), "I1: an accepted job is lost"
        for job in jobs.values():
            assert job["script_state"] in FINAL, f"I2: {job['id']} never ended"
            assert job["vm_state"] in ("none", "gone"), f"I6: {job['id']} still has a VM"
            self._check_story(self.story(job["id"]))
            self._check_log(job)
        left = self.leftovers()
        assert not left, f"I6: left behind: {left}"
        self._check_database()

    def _check_story(self, kinds: list[str]) -> None:
        ends = [kind for kind in kinds if kind in ("exited", "failed", "timed_out", "stopped", "cancelled", "lost")]
        assert len(ends) == 1, f"I2: {len(ends)} ends in {kinds}"
        assert kinds.count("started") <= 1, f"I3: started twice in {kinds}"

    def _check_log(self, job: sqlite3.Row) -> None:
        if job["script_state"] == "succeeded":
            log = self.home / "jobs" / job["id"] / str(job["attempt"]) / "log"
            output = log.read_bytes()
            assert b"the last line\n" in output, "I9: the log of a succeeded job lacks its end"
            assert output.count(b"begin\n") == 1, "I3: the script was started twice"
        assert job["exit_code"] != 99, "I3: the script was started twice"

    def leftovers(self) -> list[str]:
        """Return what should have gone: sockets, disks, files of VMs without a job, and processes."""
        give_up = time.monotonic() + self.patience
        while (processes := self.processes()) and time.monotonic() < give_up:
            time.sleep(0.02)
        sockets = [str(path) for path in (self.run / "c").glob("*")]
        doors = [str(path) for path in (self.home / "doors").glob("*")]
        disks = [str(path) for path in (self.home / "jobs").glob("*/*/scratch.qcow2")]
        warm = [str(path) for path in (self.home / "warm").glob("*")]
        return sockets + doors + disks + warm + processes

    @property
    def run(self) -> Path:
        """The run directory, which may lie outside of the test's folder."""
        from magpie_local import config

        return config.runtime_dir(self.home)

    def qemus(self) -> list[int]:
        """Return the QEMU processes whose files lie in this state directory."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes()
                if b"qemu-system" in command.split(b"\0")[0] and str(self.home).encode() in command:
                    found.append(int(process.name))
        return found

    def processes(self) -> list[str]:
        """Return the command lines of all others that name this state directory there or in their environment.

        These are engines, VMs, agents, scripts. A zombie names nothing.
        """
        names = (os.fsencode(self.home), os.fsencode(self.run))
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
                if int(process.name) != os.getpid() and any(name in command + environment for name in names):
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def _check_database(self) -> None:
        with closing(sqlite3.connect(self.home / "magpie.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "I13"
            assert db.execute("PRAGMA foreign_key_check").fetchall() == [], "I13"
