"""OpenSSH's server in the guest: its configuration, its start, and its next start when it has died."""

from __future__ import annotations

import os
import time

from magpie_local.guest.agent.background import Trouble, spawn
from magpie_local.guest.agent.card import bring_up
from magpie_local.guest.agent.identity import HOST_KEY, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from magpie_local.guest.agent.loop import Loop, Timer

SSHD = "/usr/sbin/sshd"
PORT = 22
#: Seconds within which it must listen.
PATIENCE = 20.0
#: Seconds between its death and its next start: one that dies at once must not take the whole CPU.
AGAIN = 0.25
_LOOK = 0.01

#: Not below /run/magpie, which is closed to all but root: sshd reads the keys in the name of who comes.
_FOLDER = "/etc/ssh/magpie"
_KEYS, _CONFIG, _LOG = f"{_FOLDER}/authorized_keys", f"{_FOLDER}/sshd_config", "/run/magpie/sshd.log"
#: Holds all sockets that listen: number, own address, the other's, state (0A is listening), …
_SOCKETS, _LISTENING = "/proc/net/tcp", "0A"
#: Without PAM, names of hosts and messages of the day, which all cost time. The last two are limits that sshd would
#: reach when somebody opens many connections at once.
_TEXT = """\
ListenAddress {address}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {keys}
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
PidFile none
LogLevel ERROR
AcceptEnv *
SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts no
X11Forwarding no
Subsystem sftp internal-sftp
LoginGraceTime 60
MaxSessions 100
MaxStartups 100
"""


class Sshd:
    """A running sshd that is started again whenever it has died, until it is closed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._address = ""
        self._pid = 0
        self._pidfd = -1
        self._again: Timer | None = None
        self._closed = False
        self._waiting: list[Callable[[str | Trouble], None]] = []

    def open(self, authorized: str, address: str, done: Callable[[str | Trouble], None]) -> None:
        """Have it listen at `address` for the owners of the `authorized` keys, as root and magpie.

        `done` is called with the host key's public half once it listens, or with the Trouble. Asked again, only the
        keys change.
        """
        try:
            public = _public_host_key()
            host = address.partition("/")[0]
            if self._address not in ("", host):
                raise Trouble(f"sshd listens at {self._address} already")
            _write(authorized, host)
            if self._pid == 0:
                bring_up(address)
                self._start()
            self._address = host
        except Trouble as trouble:
            done(trouble)
            return
        self._waiting.append(done)
        self._look(public, time.monotonic() + PATIENCE)

    def close(self) -> None:
        """Start it no more; who ends all processes ends it as well."""
        self._closed = True
        self._loop.cancel(self._again)

    def _start(self) -> None:
        log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._pid = spawn([SSHD, "-D", "-e", "-f", _CONFIG], log)
        finally:
            os.close(log)
        self._pidfd = os.pidfd_open(self._pid)
        self._loop.watch(self._pidfd, self._died)

    def _died(self) -> None:
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        os.waitpid(self._pid, 0)
        self._pid = 0
        if not self._closed:
            self._again = self._loop.after(AGAIN, self._restart)

    def _restart(self) -> None:
        try:
            self._start()
        except Trouble:  # no memory for it now
            self._again = self._loop.after(AGAIN, self._restart)

    def _look(self, public: str, give_up: float) -> None:
        """Answer when it listens. To connect would tell as well, but sshd would start a process for that."""
        if self._pid and _listens(self._address):
            self._answer(public)
        elif time.monotonic() > give_up:
            self._answer(Trouble(f"sshd does not listen at {self._address}: {_last_words()}"))
        else:
            self._loop.after(_LOOK, lambda: self._look(public, give_up))

    def _answer(self, answer: str | Trouble) -> None:
        while self._waiting:
            self._waiting.pop()(answer)


def _public_host_key() -> str:
    try:
        with open(HOST_KEY + ".pub", "rb", buffering=0) as file:
            return " ".join(file.read().decode().split()[:2])
    except FileNotFoundError:
        raise Trouble("this VM has no host key yet: it must be settled first") from None


def _write(authorized: str, host: str) -> None:
    os.makedirs(_FOLDER, 0o755, exist_ok=True)
    os.makedirs("/run/sshd", 0o755, exist_ok=True)
    put(_KEYS, authorized.rstrip() + "\n", 0o644)
    put(_CONFIG, _TEXT.format(address=host, port=PORT, host_key=HOST_KEY, keys=_KEYS), 0o600)


def _listens(host: str) -> bool:
    """Return whether something listens at `host`, by the kernel's table (addresses in the CPU's byte order)."""
    number = int.from_bytes(bytes(map(int, host.split("."))), "little")
    place = f"{number:08X}:{PORT:04X}"
    with open(_SOCKETS, "rb") as table:
        lines = table.read().decode().splitlines()[1:]
    return any(line.split()[1] == place and line.split()[3] == _LISTENING for line in lines)


def _last_words() -> str:
    try:
        with open(_LOG, "rb") as log:
            return log.read()[-500:].decode(errors="replace").strip() or "it says nothing"
    except OSError:
        return "it says nothing"
