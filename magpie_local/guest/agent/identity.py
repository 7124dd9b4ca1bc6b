"""The identity of a guest: the names, keys and addresses that no two VMs may share.

All of it is written in place: what the template has copied up once, a fork only overwrites.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The fields of an identity, as the host sends them.
FIELDS = ("hostname", "machine_id", "boot_id", "mac", "host_key", "host_key_public")

_CARD = "eth0"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
#: Lies over the kernel's own (initramfs/fstab), whose value all forks of a template have in common.
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: SIOCSIFHWADDR (netdevice(7)); struct ifreq is a name and a sockaddr, whose family is ARPHRD_ETHER.
_SET_ADDRESS, _ETHERNET, _IFREQ_SIZE = 0x8924, 1, 40


def assume(identity: Mapping[str, str]) -> None:
    """Be the VM that `identity` describes.

    Raises:
        OSError: a file can't be written, or the kernel refused.
    """
    _assume_hostname(identity["hostname"])
    put("/etc/machine-id", identity["machine_id"] + "\n", 0o444)
    put(_BOOT_ID, identity["boot_id"] + "\n", 0o444)
    os.makedirs("/etc/ssh", exist_ok=True)
    put(HOST_KEY, identity["host_key"], 0o600)
    put(HOST_KEY + ".pub", identity["host_key_public"].rstrip() + "\n", 0o644)
    _assume_mac(identity["mac"])


def put(path: str, text: str, mode: int) -> None:
    """Have `path` hold `text`. Only a new file gets the mode.

    Never emptied first: the file system would write such a file to its disk at once when it is closed.
    """
    data = text.encode(errors="surrogateescape")
    file = os.open(path, os.O_WRONLY | os.O_CREAT, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        if os.fstat(file).st_size > len(data):
            os.ftruncate(file, len(data))
    finally:
        os.close(file)


def renamed(hosts: str, before: str, after: str) -> str:
    """Return the text of /etc/hosts with the VM's own name changed, or added: it must resolve to this VM."""
    if not any(before in line.split() for line in hosts.splitlines()):
        return f"{hosts.rstrip()}\n127.0.1.1 {after}\n".lstrip()
    lines = (_renamed(line, before, after) if before in line.split() else line for line in hosts.splitlines())
    return "".join(f"{line}\n" for line in lines)


def _renamed(line: str, before: str, after: str) -> str:
    return " ".join(after if word == before else word for word in line.split())


def _assume_hostname(hostname: str) -> None:
    before = os.uname().nodename
    with open("/proc/sys/kernel/hostname", "wb", buffering=0) as file:
        file.write(hostname.encode())
    put("/etc/hostname", hostname + "\n", 0o644)
    with open("/etc/hosts", "rb", buffering=0) as file:
        hosts = file.read().decode()
    put("/etc/hosts", renamed(hosts, before, hostname), 0o644)


def _assume_mac(mac: str) -> None:
    try:
        with open(f"/sys/class/net/{_CARD}/address", "rb", buffering=0) as file:
            if file.read().decode().strip() == mac:
                return
    except FileNotFoundError:
        return  # it has no network card
    import _socket  # the core of `socket`, without its enums; built into Debian's python

    address = _ETHERNET.to_bytes(2, "little") + bytes.fromhex(mac.replace(":", ""))
    request = _CARD.encode().ljust(16, b"\0") + address
    endpoint = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        fcntl.ioctl(endpoint.fileno(), _SET_ADDRESS, request.ljust(_IFREQ_SIZE, b"\0"))
    finally:
        endpoint.close()
