"""Where libvirt is opened: the URI, the environment, and what the folder holds before.

Ordinary user with libvirtd    qemu:///session         the daemon is started by libvirt and shared with other programs
root, or no libvirtd           qemu:///embed?root=DIR  libvirt's driver inside our host process, state below DIR
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from magpie_local.errors import HypervisorUnavailable
from magpie_local.hypervisor.files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION, EMBED = "qemu:///session", "qemu:///embed"
#: The system user that libvirt, as root, insists on (Debian's and Ubuntu's name), also where QEMU runs as root.
SYSTEM_USER = "libvirt-qemu"
DAEMONS = ("libvirtd", "virtqemud")

#: No virtlogd without a daemon. Ownership, cgroups and mount namespaces are left alone: QEMU runs as the engine's
#: user with libvirt's seccomp sandbox on, and opens files in folders that only this user can enter.
_EMBED_CONFIG = """\
stdio_handler = "file"
security_driver = "none"
seccomp_sandbox = 1
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
"""
_ROOT_CONFIG = 'user = "root"\ngroup = "root"\n'


@dataclass(frozen=True, slots=True)
class Place:
    """A connection to make."""

    uri: str
    #: The embed root, or the adapter's own folder.
    folder: Path
    environment: Mapping[str, str]

    @property
    def label(self) -> str:
        """The URI without its parameters."""
        return self.uri.partition("?")[0]

    @property
    def logs(self) -> Path:
        """Where libvirt keeps QEMU's own log of each VM, for ever."""
        if self.label == EMBED:
            return self.folder / "log" / "qemu"
        return _cache_home(self.environment) / "libvirt" / "qemu" / "log"


def choose(folder: Path, uri: str | None, *, root: bool, daemon: bool) -> str:
    """Return the URI to open; `uri` is the user's own wish. A plain embed URI gets its root below `folder`."""
    wish = uri or (EMBED if root or not daemon else SESSION)
    return f"{EMBED}?root={quote(str(folder))}" if wish == EMBED else wish


def prepare(folder: Path, uri: str | None, environ: Mapping[str, str]) -> Place:
    """Return the place to open, with its files written.

    Raises:
        HypervisorUnavailable: something is missing, or the session's daemon can't be reached any more.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    chosen = choose(folder, uri, root=os.geteuid() == 0, daemon=daemon_path() is not None)
    if chosen.startswith(EMBED):
        root = Path(parse_qs(urlsplit(chosen).query).get("root", [str(folder)])[0])
        _prepare_embed(root)
        return Place(chosen, root, environ)
    if chosen == SESSION:
        return Place(chosen, folder, _session_environment(folder, environ))
    return Place(chosen, folder, environ)


def daemon_path() -> str | None:
    """Return where libvirt's daemon is installed; system folders count, though an ordinary PATH lacks them."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))
    return next((found for name in DAEMONS if (found := shutil.which(name, path=path))), None)


def has_system_user() -> bool:
    """Say whether the user is there that libvirt insists on when it runs as root."""
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return False
    return True


def _prepare_embed(root: Path) -> None:
    if os.geteuid() == 0 and not has_system_user():
        raise HypervisorUnavailable(
            f"libvirt as root needs the system user {SYSTEM_USER}, which is not there.",
            hint=f"useradd --system --no-create-home --shell /usr/sbin/nologin {SYSTEM_USER}",
        )
    config = root / "etc" / "qemu.conf"
    config.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(config, _EMBED_CONFIG + (_ROOT_CONFIG if os.geteuid() == 0 else ""))


def _session_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that leads to this state directory's daemon.

    A user has one session daemon per XDG_RUNTIME_DIR (terminal, cron and notebook may differ), and each would start
    a VM of the same id. So the first one met is written down, and everyone goes there until the machine restarts.
    """
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    pin = folder / "session.json"
    runtime = _pinned(pin, boot_id)
    if runtime is None:
        runtime = environ.get("XDG_RUNTIME_DIR") or str(_cache_home(environ))
        write_private(pin, json.dumps({"runtime_dir": runtime, "boot_id": boot_id}))
    elif not Path(runtime).is_dir():
        raise HypervisorUnavailable(
            f"The VMs of this state directory are under the libvirt session in {runtime}, which has gone.",
            hint=f"Log in again (`loginctl enable-linger` keeps it), or, once no VM of it runs, delete {pin}.",
        )
    return {**environ, "XDG_RUNTIME_DIR": runtime}


def _cache_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _pinned(pin: Path, boot_id: str) -> str | None:
    try:
        known = json.loads(pin.read_text(encoding="utf-8"))
        return str(known["runtime_dir"]) if known["boot_id"] == boot_id else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
