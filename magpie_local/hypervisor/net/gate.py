"""The gate of one VM's default network: a process between QEMU and passt, which lives as long as both.

    QEMU  --UNIX socket-->  gate (policy)  --socket pair-->  passt  --ordinary sockets-->  the internet

Standard input is a listening UNIX socket, to which one QEMU connects, once. The program returns (status 0) when passt
answers, and goes on in the background; otherwise it says why on standard error. When QEMU ends, in whatever way, so do
the gate and passt; nothing of ours needs to be alive.

Run as: python -m magpie_local.hypervisor.net.gate PASST FAMILIES USER [lan] [ADDRESS@PORT...]
FAMILIES is 4, 6 or 46; USER is the number of the user to become (and of its group), or - to stay; the rest is what may
be reached of the inside (policy.Policy).
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time

from magpie_local.hypervisor.net import policy
from magpie_local.hypervisor.net.addresses import Watch, own_addresses
from magpie_local.hypervisor.net.frames import CHUNK, HEADER, Splitter
from magpie_local.hypervisor.net.policy import Policy, packed
from magpie_local.hypervisor.net.start import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

#: Seconds until passt must have answered; it takes 0.02.
_ANSWER_BUDGET = 10.0
#: Seconds until QEMU must have connected.
_CLIENT_BUDGET = 60.0
#: passt's address on the guest's wire: locally administered, and the same everywhere, as forks expect.
_ROUTER_MAC = "52:55:0a:00:02:02"
_LAN = "lan"
_PROBE_MAC = bytes.fromhex("525400000001")


class NoAnswer(Exception):
    """passt does not work here."""


class Gate:
    """What goes on between one QEMU and one passt."""

    def __init__(self, qemu: socket.socket, passt: socket.socket, inside: Sequence[str]) -> None:
        self._qemu = qemu
        self._passt = passt
        self._inside = inside
        self._watch = Watch()
        self._policy = _policy(inside)

    def run(self) -> NoReturn:
        """Pass frames until either side has gone. Each direction may have to wait for its receiver by itself."""
        for task in (self._outward, self._inward):
            threading.Thread(target=_to_the_end, args=(task,), daemon=True).start()
        _to_the_end(self._follow)

    def _outward(self) -> None:
        splitter = Splitter()
        while data := self._qemu.recv(CHUNK):
            allows = self._policy.allows
            passed = [frame for frame in splitter.feed(data) if allows(frame[HEADER:])]
            if passed:
                self._passt.sendall(b"".join(passed))

    def _inward(self) -> None:
        buffer = memoryview(bytearray(CHUNK))
        while size := self._passt.recv_into(buffer):
            self._qemu.sendall(buffer[:size])

    def _follow(self) -> None:
        """Keep the policy true while this machine's addresses change, as a laptop's do."""
        while True:
            self._watch.wait()
            self._policy = _policy(self._inside)


def _policy(inside: Sequence[str]) -> Policy:
    services = [one.rpartition("@") for one in inside if one != _LAN]
    return Policy(
        own_addresses(), lan=_LAN in inside, services=[(packed(address), int(port)) for address, _, port in services]
    )


def _to_the_end(task: Callable[[], None]) -> NoReturn:
    # However it ends, the whole gate does: half a gate would be a network that looks alive.
    try:
        task()
    finally:
        os._exit(0)


def start_passt(program: str, families: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start passt; return the socket to it, and its process, which ends with that socket."""
    ours, theirs = socket.socketpair()
    # What it says later on, at a guest's will, finds a full pipe.
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writer, False)
    command = [
        program, "--foreground", "--fd", str(theirs.fileno()), "--mac-addr", _ROUTER_MAC, "--no-map-gw",
        "--tcp-ports", "none", "--udp-ports", "none", "--no-dhcp", "--no-dhcpv6", "--no-ra",
        *(_ipv4() if "4" in families else ["--ipv6-only"]), *(_ipv6() if "6" in families else ["--ipv4-only"]),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer, cwd="/"
    )
    os.close(writer)
    theirs.close()
    process.stderr = os.fdopen(reader, "rb")
    return ours, process


def await_answer(passt: socket.socket, process: subprocess.Popen[bytes], families: str) -> None:
    """Return when passt answers for its gateway.

    Raises:
        NoAnswer: it ended or is silent; tells its own last words.
    """
    question = _arp_question() if "4" in families else _neighbour_question()
    give_up = time.monotonic() + _ANSWER_BUDGET
    answered = False
    try:
        passt.sendall(len(question).to_bytes(HEADER) + question)
        while not answered and select.select([passt], [], [], max(0.0, give_up - time.monotonic()))[0]:
            data = passt.recv(CHUNK)
            answered = question[12:14] in data
            if not data:
                break
    except OSError:
        pass  # it has ended
    if not answered:
        process.kill()
        assert process.stderr is not None
        raise NoAnswer(last_words(process.stderr.read().decode(errors="replace")))


def last_words(text: str) -> str:
    """Return the last line of what passt said; it also complains that there is no system logger."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "syslog" not in line]
    return lines[-1] if lines else "it said nothing"


def _ipv4() -> list[str]:
    return [
        "--address", policy.ADDRESS4, "--netmask", str(policy.PREFIX4), "--gateway", policy.GATEWAY4,
        "--dns-forward", policy.DNS4,
    ]  # fmt: skip


def _ipv6() -> list[str]:
    return ["--address", policy.ADDRESS6, "--gateway", policy.GATEWAY6]


def _arp_question() -> bytes:
    sender, target = socket.inet_aton(policy.ADDRESS4), socket.inet_aton(policy.GATEWAY4)
    ethernet = b"\xff" * 6 + _PROBE_MAC + b"\x08\x06"
    return ethernet + bytes.fromhex("0001080006040001") + _PROBE_MAC + sender + bytes(6) + target


def _neighbour_question() -> bytes:
    """Return a neighbour solicitation (RFC 4861, 4.3) for the gateway; passt does not look at checksums."""
    sender, target = (socket.inet_pton(socket.AF_INET6, each) for each in (policy.ADDRESS6, policy.GATEWAY6))
    group = bytes.fromhex("ff0200000000000000000001ff") + target[-3:]
    body = bytes([135, 0, 0, 0]) + bytes(4) + target + bytes([1, 1]) + _PROBE_MAC
    header = bytes.fromhex("60000000") + len(body).to_bytes(2) + bytes([58, 255]) + sender + group
    return b"\x33\x33\xff" + target[-3:] + _PROBE_MAC + b"\x86\xdd" + header + body


def _drop_privileges(user: int) -> None:
    """Be nobody: passt parses what a guest sends, and root's gate needs no right from here on."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def main(arguments: list[str]) -> None:
    """Be the gate of the VM that connects to standard input."""
    program, families, user, *inside = arguments
    listener = socket.socket(fileno=os.dup(0))
    if user != "-":
        _drop_privileges(int(user))
    passt, process = start_passt(program, families)
    try:
        await_answer(passt, process, families)
    except NoAnswer as error:
        sys.exit(str(error))
    detach()
    listener.settimeout(_CLIENT_BUDGET)
    qemu, _ = listener.accept()
    listener.close()
    qemu.setblocking(True)
    Gate(qemu, passt, inside).run()


if __name__ == "__main__":
    main(sys.argv[1:])
