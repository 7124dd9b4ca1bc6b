"""Programs that come, go, are interrupted and are killed, while their jobs go on: real processes, fake VMs."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

SLOWLY = "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done"
LINES = "".join(f"line {number}\n" for number in range(1, 6))

IMPORT = "import os, sys, time; from magpie_local import Magpie; client = Magpie(); "
SUBMIT = IMPORT + "job = client.jobs.create('job', os.environ['SCRIPT'], memory_mb=64); print(job.id); "
RUNNING = SUBMIT + "[time.sleep(0.01) for _ in iter(lambda: client.jobs.get_status(job.id) == 'running', True)]; "


def finish(program: subprocess.Popen[str], within: float = 20.0) -> tuple[str, float]:
    """Return the output of a program that must succeed, and how long its end took."""
    began = time.monotonic()
    out, err = program.communicate(timeout=within)
    assert program.returncode == 0, err
    return out, time.monotonic() - began


def first_line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def kill(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.communicate()


def test_a_program_that_forgets_to_close_ends_within_two_seconds_and_leaves_nothing(place):
    program = place.start("-c", IMPORT + "print('done')")
    assert first_line(program) == "done"

    _, seconds = finish(program)

    assert seconds < 2.0
    assert place.processes() == []


def test_a_program_that_forgets_to_close_leaves_its_job_to_a_keeper(place):
    program = place.start("-c", RUNNING + "print('done')", SCRIPT=SLOWLY)
    job_id = first_line(program)
    assert first_line(program) == "done"
    _, seconds = finish(program)

    job = place.ended(job_id)

    assert seconds < 2.0
    assert (job.status, job.attempt) == ("completed", 1)
    with place.client() as client:
        assert client.jobs.get_logs(job_id) == LINES
        assert "adopted" in [event.kind for event in client.jobs.story(job_id)]
    assert place.comes_to_rest()


def test_there_is_one_keeper_however_many_leave_their_jobs_behind(place, eventually):
    programs = [place.start("-c", SUBMIT, SCRIPT="sleep 3") for _ in range(4)]
    jobs = [finish(program)[0].strip() for program in programs]
    assert eventually(place.keepers, 5)

    counts = []
    with place.client() as client:
        while not all(client.jobs.get(job_id).is_final for job_id in jobs):
            counts.append(len(place.keepers()))
            time.sleep(0.1)

    assert {place.ended(job_id).status for job_id in jobs} == {"completed"}
    assert set(counts[len(counts) // 2 :]) == {1}  # each program started one; all but one found the lock taken
    assert place.comes_to_rest()


def test_without_a_keeper_the_job_goes_on_and_the_next_client_finds_its_end(place):
    program = place.start("-c", RUNNING, SCRIPT=SLOWLY, MAGPIE_KEEPER="false")
    job_id = finish(program)[0].strip()
    assert place.keepers() == []
    time.sleep(1.5)

    code = IMPORT + "print(client.jobs.wait(sys.argv[1]).status); print(client.jobs.get_logs(sys.argv[1]))"
    out, _ = finish(place.start("-c", code, job_id))

    assert out == f"completed\n{LINES}\n"
    assert place.comes_to_rest()


def test_a_killed_program_loses_nothing_and_the_next_client_adopts(place):
    program = place.start("-c", RUNNING + "print('up'); time.sleep(600)", SCRIPT=SLOWLY)
    job_id = first_line(program)
    assert first_line(program) == "up"
    kill(program)
    assert place.keepers() == []

    code = IMPORT + "job = client.jobs.wait(sys.argv[1]); print(job.status, job.exit_code, job.attempt)"
    out, _ = finish(place.start("-c", code, job_id))

    assert out == "completed 0 1\n"
    with place.client() as client:
        assert client.jobs.get_logs(job_id) == LINES
    assert place.comes_to_rest()


def test_a_program_that_dies_of_an_error_leaves_its_job_to_a_keeper(place):
    program = place.start("-c", RUNNING + "1/0", SCRIPT=SLOWLY)
    out, err = program.communicate(timeout=20)

    assert "ZeroDivisionError" in err
    assert place.ended(out.strip()).status == "completed"
    assert place.comes_to_rest()


def test_a_program_that_exits_while_its_thread_waits_leaves_its_job_to_a_keeper(place):
    code = RUNNING + (
        "import threading; threading.Thread(target=client.jobs.wait, args=[job.id], daemon=True).start(); "
        "time.sleep(0.2); sys.exit(0)"
    )
    job_id = finish(place.start("-c", code, SCRIPT=SLOWLY))[0].strip()

    assert place.ended(job_id).status == "completed"
    assert place.comes_to_rest()


def test_a_job_of_a_program_that_does_not_lead_is_driven_by_a_keeper(place):
    code = SUBMIT.replace("Magpie()", "Magpie(lead=False)") + "print(client.jobs.wait(job.id, 20).status)"

    out, _ = finish(place.start("-c", code, SCRIPT="echo hi"))

    assert out.splitlines()[1] == "completed"
    assert place.comes_to_rest()


def test_a_killed_keeper_is_followed_by_the_next_client(place, eventually):
    job_id = finish(place.start("-c", RUNNING, SCRIPT=SLOWLY))[0].strip()
    assert eventually(place.keepers, 5)
    for pid in place.keepers():
        os.kill(pid, signal.SIGKILL)

    out, _ = finish(place.start("-c", IMPORT + "print(client.jobs.wait(sys.argv[1]).status)", job_id))

    assert out == "completed\n"
    assert place.comes_to_rest()


def test_a_timeout_holds_with_no_process_of_ours_alive(place):
    code = SUBMIT.replace("memory_mb=64", "memory_mb=64, timeout=1") + "client.jobs.wait(job.id)"
    program = place.start("-c", code, SCRIPT="echo begin; sleep 600")
    job_id = first_line(program)
    with place.client() as client:
        while client.jobs.get_status(job_id) != "running":
            time.sleep(0.01)
    kill(program)
    time.sleep(2.5)

    finish(place.start("-c", IMPORT + "client.jobs.wait(sys.argv[1])", job_id))

    job = place.ended(job_id)
    assert (job.script_state, job.exit_code, job.reason) == ("timed_out", 124, None)
    assert job.duration == pytest.approx(1.0, abs=0.4)
    assert place.comes_to_rest()


def test_ctrl_c_interrupts_the_program_and_not_the_job(place):
    code = SUBMIT + (
        "print('waiting');\ntry: client.jobs.wait(job.id)\nexcept KeyboardInterrupt: print('interrupted')\n"
        "print(client.jobs.wait(job.id).status)"
    )
    program = place.start("-c", code, SCRIPT=SLOWLY)
    job_id = first_line(program)
    assert first_line(program) == "waiting"
    time.sleep(0.3)
    # To the whole group, as a terminal does.
    os.killpg(program.pid, signal.SIGINT)

    out, _ = finish(program)

    assert out == "interrupted\ncompleted\n"
    with place.client() as client:
        assert client.jobs.get_logs(job_id) == LINES
    assert place.comes_to_rest()


def test_a_closed_terminal_takes_neither_the_job_nor_its_keeper(place, eventually):
    program = place.start("-c", RUNNING + "print('up'); client.close(); time.sleep(600)", SCRIPT=SLOWLY)
    job_id = first_line(program)
    assert first_line(program) == "up"
    assert eventually(place.keepers, 5)
    os.killpg(program.pid, signal.SIGHUP)
    program.communicate()

    assert place.ended(job_id).status == "completed"
    assert place.comes_to_rest()


def test_two_programs_share_the_work_and_the_second_takes_over(place):
    first = place.start("-c", RUNNING + "print('up'); time.sleep(600)", SCRIPT=SLOWLY)
    job_id = first_line(first)
    assert first_line(first) == "up"
    code = IMPORT + "print(client.leader()); job = client.jobs.wait(sys.argv[1]); print(job.status, client.leader())"
    second = place.start("-c", code, job_id)
    assert first_line(second) == "other"
    kill(first)

    out, _ = finish(second)

    assert out == "completed this\n"
    assert place.comes_to_rest()


def test_jobs_that_wait_in_the_queue_are_left_to_the_keeper_as_well(place):
    code = IMPORT + "[print(client.jobs.create('job', 'sleep 0.2', memory_mb=64).id) for _ in range(3)]"

    jobs = finish(place.start("-c", code, MAGPIE_CPUS="1"))[0].split()

    assert [place.ended(job_id).status for job_id in jobs] == ["completed"] * 3
    assert place.comes_to_rest()
