"""What every guest does with an order: the real agent, behind each hypervisor."""

from __future__ import annotations

import asyncio
import time

import pytest

from magpie_local.domain.frames import EXIT, STARTED, STDERR, STDOUT
from magpie_local.errors import GuestLost, HostError
from magpie_local.guest.channel import AgentGuest


async def test_the_agent_answers_hello_as_idle(runner):
    async with runner.session() as (_, session):
        state = await session.hello()
    assert (state.state, state.attempt_id, state.settled) == ("idle", None, False)


async def test_the_log_begins_with_the_start_and_ends_with_the_exit(runner):
    log = await runner.run(b"echo one; echo two >&2; exit 7")
    assert (log.kinds[0], log.kinds[-1]) == (STARTED, EXIT)
    assert (log.output(STDOUT), log.output(STDERR)) == (b"one\n", b"two\n")
    assert (log.exit.code, log.exit.signal, log.exit.timed_out, log.exit.stopped) == (7, None, False, False)


async def test_frames_are_stamped_with_the_time_they_were_written(runner):
    log = await runner.run(b"echo one; sleep 0.3; echo two")
    stamps = [stamp for kind, stamp, _ in log.frames if kind == STDOUT]
    assert stamps[1] - stamps[0] >= 300_000
    assert log.exit.started_at * 1e6 <= stamps[0] + 1 <= stamps[1] <= log.exit.ended_at * 1e6


@pytest.mark.parametrize("number", [6, 9, 15])
async def test_a_script_that_a_signal_ended_has_128_and_the_signal(runner, number):
    log = await runner.run(b"kill -%d $$" % number)
    assert (log.exit.code, log.exit.signal) == (128 + number, number)


async def test_a_script_that_writes_to_a_closed_pipe_dies_of_sigpipe(runner):
    log = await runner.run(b"yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert log.output() == b"y\n141\n"


async def test_a_timeout_ends_the_script_and_is_told(runner):
    log = await runner.run(b"echo before; sleep 60; echo after", timeout=1.0)
    assert log.output() == b"before\n"
    assert (log.exit.code, log.exit.timed_out, log.exit.stopped) == (143, True, False)
    assert 1.0 <= log.exit.ended_at - log.exit.started_at < 5


async def test_a_timeout_kills_a_script_that_ignores_sigterm(runner):
    log = await runner.run(b"trap '' TERM; while true; do sleep 0.1; done", timeout=0.5)
    assert (log.exit.code, log.exit.signal, log.exit.timed_out) == (137, 9, True)


async def test_stop_gives_the_script_its_grace(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"trap 'echo bye; exit 5' TERM; echo up; while true; do sleep 0.05; done"))
        await runner.wait_for_output(spec, b"up\n")
        await session.stop(10.0)
        await session.exited()
        log = await runner.log_with_exit(spec)
    assert log.output(STDOUT) == b"up\nbye\n"
    assert (log.exit.code, log.exit.stopped, log.exit.timed_out) == (5, True, False)


async def test_an_interrupt_is_sigint(runner):
    async with runner.session() as (spec, session):
        script = b"trap 'echo caught; exit 6' INT; echo up; while true; do sleep 0.05; done"
        await session.run(runner.order(spec, script))
        await runner.wait_for_output(spec, b"up\n")
        await session.interrupt()
        await session.exited()
        log = await runner.log_with_exit(spec)
    assert log.output(STDOUT) == b"up\ncaught\n"
    assert (log.exit.code, log.exit.stopped) == (6, False)


async def test_stop_kills_when_the_grace_is_over(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"trap 'echo no' TERM; echo up; while true; do sleep 0.05; done"))
        await runner.wait_for_output(spec, b"up\n")
        began = time.monotonic()
        await session.stop(0.4)
        await session.exited()
        took = time.monotonic() - began
        log = await runner.log_with_exit(spec)
    assert (log.exit.code, log.exit.stopped) == (137, True)
    assert took >= 0.4


async def test_output_is_the_same_byte_for_byte(runner):
    everything = bytes(range(256))
    script = b"printf '%b' \"$ALL\"; printf '%b' \"$ALL\" >&2"
    log = await runner.run(script, env={"ALL": "".join(f"\\x{byte:02x}" for byte in everything)})
    assert log.output(STDOUT) == everything
    assert log.output(STDERR) == everything


async def test_stdout_and_stderr_keep_their_order(runner):
    # With several CPUs at work no reader of two pipes can tell; there the script leaves time between.
    pause = b"" if runner.world.one_cpu else b"sleep 0.02;"
    log = await runner.run(b"for i in {1..40}; do echo out$i; %s echo err$i >&2; %s done" % (pause, pause))
    assert log.output() == b"".join(b"out%d\nerr%d\n" % (i, i) for i in range(1, 41))


async def test_the_script_finds_a_plain_environment(runner):
    script = b"""
        cd "$HOME" && [ "$PWD" = "$OLDPWD" ] && echo home
        read -r line || echo no input
        echo data > /dev/stderr
        [ -p /dev/fd/1 ] && [ -p /dev/fd/2 ] && echo pipes
        ls /proc/$$/fd | tr '\\n' ' '
        ps -o pid=,pgid=,sid= -p $$ | { read p g s; [ "$p$p" = "$g$s" ] && echo leader; }
        echo $LANG $TERM
    """
    log = await runner.run(script)
    assert log.output(STDERR) == b"data\n"
    assert log.output(STDOUT) == b"home\nno input\npipes\n0 1 2 255 leader\nC.UTF-8 dumb\n"


async def test_a_script_of_ten_megabytes_arrives_whole(runner):
    line = b": " + b"x" * 1021 + b"\n"
    script = line * (10 * 1024) + b'cksum < "$0"; wc -c < "$0"\n'
    log = await runner.run(script)
    assert log.output(STDOUT).split()[1] == log.output(STDOUT).split()[2] == str(len(script)).encode()
    assert log.exit.code == 0


async def test_a_large_and_nasty_environment_arrives_whole(runner):
    value = ("'\"$(touch /tmp/owned)`id`\\\n\r\t€ $HOME ; & |\x01\x7f" * 3000)[:100_000]
    log = await runner.run(b'printf %s "$NASTY"', env={"NASTY": value, "HOME": "/elsewhere"})
    assert log.output(STDOUT) == value.encode()


async def test_the_jobs_environment_wins(runner):
    log = await runner.run(b'echo "$HOME $TERM"', env={"HOME": "/elsewhere"})
    assert log.output(STDOUT) == b"/elsewhere dumb\n"


async def test_the_script_may_hold_any_bytes_but_nul(runner):
    script = b"cat <<'END'\r\n\xff\xfe\x80\r\nEND\r\n"
    log = await runner.run(script)
    assert log.output() == b"\xff\xfe\x80\r\n"


async def test_who_connects_later_learns_of_the_running_and_the_exited_script(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"echo up; sleep 0.5"))
        await session.close()
        second = await AgentGuest().connect(spec.control)
        running = await second.hello()
        await second.exited()
        exited = await second.hello()
        await second.close()
    assert (running.state, running.attempt_id) == ("running", spec.attempt_id)
    assert (exited.state, exited.attempt_id) == ("exited", spec.attempt_id)


async def test_a_second_order_is_refused(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"sleep 0.3; echo first"))
        with pytest.raises(HostError, match="taken an order before"):
            await session.run(runner.order(spec, b"echo second"))
        await session.exited()
        log = await runner.log_with_exit(spec)
    assert log.output() == b"first\n"


async def test_the_end_of_a_vm_is_noticed_by_all_who_wait(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"sleep 60"))
        waiting = asyncio.create_task(session.exited())
        await asyncio.sleep(0)
        await runner.hypervisor.destroy(spec.id)
        with pytest.raises(GuestLost):
            await waiting
        with pytest.raises(GuestLost):
            await session.hello()
        with pytest.raises(GuestLost):
            await session.stop(1.0)


async def test_nobody_listens_where_no_vm_is(world):
    with pytest.raises(GuestLost, match="No VM listens"):
        await AgentGuest().connect(world.folder / "nothing")


async def test_a_settled_guest_is_who_it_was_told_in_the_time_it_was_told(runner):
    who = runner.world.who
    script = "".join(f"echo {name}; {command}; echo; echo END\n" for name, command in who.items())
    next_year = time.time() + 366 * 86400
    async with runner.session() as (spec, session):
        for _ in range(2):  # the last one holds
            identity = await AgentGuest().new_identity(spec.id)
            await session.settle(identity, runner.renewal())
        assert (await session.hello()).settled
        await session.run(runner.order(spec, script.encode(), now=next_year))
        await session.exited()
        log = await runner.log_with_exit(spec)
    found = dict(part.strip().split("\n", 1) for part in log.output(STDOUT).decode().split("END\n") if part)
    assert 0 <= float(found.pop("now")) - int(next_year) < 60
    assert found == {name: getattr(identity, name).strip() for name in found}
    assert log.output(STDERR) == b""


async def test_an_exercised_guest_goes_on_as_if_nothing_had_been(runner):
    script = b"cd $HOME && find . -newer $0 ! -path './.magpie*'; jobs -p; echo done"
    async with runner.session() as (spec, session):
        await session.settle(await AgentGuest().new_identity(spec.id), runner.renewal())
        await session.exercise()
        assert runner.log(spec).frames == []
        state = await session.hello()
        assert (state.state, state.settled) == ("idle", False)
        launch = await session.run(runner.order(spec, script))
        await session.exited()
        log = await runner.log_with_exit(spec)
    assert (log.kinds[0], log.output()) == (STARTED, b"done\n")
    assert launch.spawn > 0


async def test_a_guest_that_has_its_order_is_neither_settled_nor_exercised(runner):
    async with runner.session() as (spec, session):
        await session.run(runner.order(spec, b"sleep 0.3; echo mine"))
        with pytest.raises(HostError, match="taken an order before"):
            await session.settle(await AgentGuest().new_identity(spec.id), runner.renewal())
        with pytest.raises(HostError, match="taken an order before"):
            await session.exercise()
        await session.exited()
        log = await runner.log_with_exit(spec)
    assert log.output() == b"mine\n"


async def test_a_client_that_speaks_as_it_comes_is_answered_at_once(runner):
    async with runner.session() as (spec, session):
        await session.close()
        for _ in range(20):
            again = await AgentGuest().connect(spec.control)
            async with asyncio.timeout(4):  # less than it takes a client to say it again
                assert (await again.hello()).state == "idle"
            await again.close()
