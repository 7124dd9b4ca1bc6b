"""What a job asks for, and the check of it. Everything is checked here, before anything is stored or started."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from magpie_local.domain.network import check_lease, check_network_name
from magpie_local.domain.sizes import GIB, KIB, MIB
from magpie_local.domain.workspace import check_size, check_workspace_id
from magpie_local.errors import InvalidInput

MAX_SCRIPT = 16 * MIB
MAX_NAME = 200
#: The kernel's limit for one string of an environment (MAX_ARG_STRLEN, execve(2)): KEY=VALUE and the NUL.
MAX_ENV_ENTRY = 128 * KIB
MAX_ENV_TOTAL = 1 * MIB
MAX_TIMEOUT = 365 * 86400.0
MAX_PATTERNS, MAX_PATTERN = 100, 1000
MIN_LOG_LIMIT = 64 * KIB
ISOLATIONS = ("shared", "private")

_ENV_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """What this host can give to one VM."""

    #: Most virtual CPUs of one VM.
    vcpus: int
    #: Most memory of one VM, MiB.
    memory_mb: int
    #: Least memory that the image boots with, MiB.
    min_memory_mb: int = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsSpec:
    """The tar file with a job's uploads."""

    #: Bytes, and CRC-32.
    size: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job as asked for (seed 000, jobs.create).

    Later ways to say what runs (argv, uploads, workspaces, networks) become further fields with defaults, so that
    stored specs stay
    readable.
    """

    name: str
    #: The bash script, byte for byte.
    script: bytes = field(repr=False)
    vcpus: int = 1
    memory_mb: int = 512
    env: Mapping[str, str] = field(default_factory=lambda: _EMPTY, repr=False)
    #: Further entries of the environment, sealed (ports.vault), and their names.
    secrets: bytes | None = field(default=None, repr=False)
    secret_names: tuple[str, ...] = ()
    #: Seconds from the script's first instruction; None is no limit.
    timeout: float | None = None
    image: str = "base"
    #: Most bytes of log kept (head and tail; what lies between is counted, not kept).
    log_limit: int = 16 * MIB
    description: str = ""
    #: `shared`: its VM may be a fork, which shares unchanged memory pages with others; `private`: it boots afresh.
    isolation: str = "shared"
    #: A disk that outlives the job is mounted at /workspace (seed 002).
    stateful: bool = False
    #: Which one; None is one of the job's own id.
    workspace_id: str | None = None
    #: GiB, of a workspace that is new; None is 10. One that exists keeps its size.
    workspace_size_gb: int | None = None
    #: The workspace that a new one begins with; that one is never changed by it.
    base_workspace_id: str | None = None
    #: The VM stays after the script, until it is stopped (seed 000).
    persistent: bool = False
    #: Seconds without a connection after which such a VM is put to sleep until somebody wants it; None is never.
    idle_pause: float | None = None
    #: `default` leads out to the internet, `none` nowhere; any other is a named one, between its VMs.
    network: str = "none"
    #: The name of an IPv6 address that the VM has: the same one whenever that name is asked for.
    ipv6_lease: str | None = None
    #: What is unpacked in the guest before the script: a tar file that lies ready (Layout.uploads).
    uploads: UploadsSpec | None = None
    #: Patterns of files that are collected when the script has ended, and the most bytes of them.
    outputs: tuple[str, ...] = ()
    outputs_limit: int = GIB

    def check(self, limits: HostLimits) -> None:
        """Raise InvalidInput at the first field that is not allowed."""
        _check_text("name", self.name, MAX_NAME)
        _check_text("description", self.description, 10_000, empty=True)
        _check_script(self.script)
        _check_int("vcpus", self.vcpus, 1, limits.vcpus)
        _check_int("memory_mb", self.memory_mb, limits.min_memory_mb, limits.memory_mb)
        _check_env(self.env)
        if both := sorted(set(self.env) & set(self.secret_names)):
            raise InvalidInput("secret_env", both[0], "a name is either in env or in secret_env")
        _check_timeout(self.timeout)
        _check_int("log_limit", self.log_limit, MIN_LOG_LIMIT, 1024 * 1024 * MIB)
        check_image_name(self.image)
        if self.isolation not in ISOLATIONS:
            raise InvalidInput("isolation", self.isolation, f"one of {', '.join(ISOLATIONS)}")
        _check_flag("stateful", self.stateful)
        _check_flag("persistent", self.persistent)
        self._check_idle_pause()
        self._check_workspace()
        _check_outputs(self.outputs)
        _check_int("outputs_limit", self.outputs_limit, 1, 1024 * GIB)
        check_network_name("network", self.network)
        if self.ipv6_lease is not None:
            check_lease(self.ipv6_lease)
            if self.network == "none":
                raise InvalidInput("ipv6_lease", self.ipv6_lease, "a job with network='none' has no address")

    def _check_idle_pause(self) -> None:
        if self.idle_pause is None:
            return
        _check_seconds("idle_pause", self.idle_pause, "or None to never sleep")
        if not self.persistent:
            raise InvalidInput(
                "idle_pause", self.idle_pause, "a job without persistent=True has no VM that could sleep"
            )

    def _check_workspace(self) -> None:
        """Raise InvalidInput where the workspace can't be had, or would be silently left out."""
        named = {"workspace_id": self.workspace_id, "base_workspace_id": self.base_workspace_id}
        for name, value in named.items():
            if value is None:
                continue
            check_workspace_id(name, value)
            if not self.stateful:
                raise InvalidInput(name, value, "a job without stateful=True has no workspace: add it")
        if self.workspace_size_gb is not None:
            check_size(self.workspace_size_gb)
        if self.base_workspace_id is not None and self.base_workspace_id == self.workspace_id:
            raise InvalidInput("base_workspace_id", self.base_workspace_id, "a workspace can't be its own base")


def check_image_name(name: object) -> None:
    """Raise InvalidInput unless `name` can be an image's name, and so a folder's."""
    if not (isinstance(name, str) and _IMAGE.fullmatch(name)):
        raise InvalidInput("image", name, "an image name is lower-case letters, digits, '.', '_' and '-'")


def script_bytes(script: object) -> bytes:
    """Return a script given as text or bytes as the bytes that the guest gets; text becomes UTF-8, line ends stay."""
    if isinstance(script, str):
        try:
            return script.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput("script", script, f"character {error.start} is no text; give bytes instead") from None
    if isinstance(script, (bytes, bytearray, memoryview)):
        return bytes(script)
    raise InvalidInput("script", script, "give the script as str or bytes")


def _check_text(name: str, value: object, limit: int, *, empty: bool = False) -> None:
    if not isinstance(value, str):
        raise InvalidInput(name, value, "give text")
    if not empty and not value.strip():
        raise InvalidInput(name, value, "it must not be empty")
    if len(value) > limit:
        raise InvalidInput(name, value, f"at most {limit} characters")
    if not value.isprintable():
        raise InvalidInput(name, value, "line breaks and other control characters are not allowed")


def _check_script(script: object) -> None:
    if not isinstance(script, bytes):
        raise InvalidInput("script", script, "give the script as str or bytes")
    if not script.strip():
        raise InvalidInput("script", script, "it must hold at least one command")
    if len(script) > MAX_SCRIPT:
        raise InvalidInput("script", script[:40], f"at most {MAX_SCRIPT} bytes, this one has {len(script)}")
    if (at := script.find(b"\0")) >= 0:
        raise InvalidInput("script", script[max(0, at - 10) : at + 10], f"bash can't read the NUL byte at offset {at}")


def _check_int(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(name, value, f"a whole number from {least} to {most}")


def _check_timeout(value: object) -> None:
    if value is not None:
        _check_seconds("timeout", value, "or None for no limit")


def _check_seconds(name: str, value: object, otherwise: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise InvalidInput(name, value, f"a positive number of seconds, {otherwise}")
    if value > MAX_TIMEOUT:
        raise InvalidInput(name, value, f"at most {MAX_TIMEOUT:.0f} seconds")


def _check_outputs(patterns: object) -> None:
    if not isinstance(patterns, tuple) or len(patterns) > MAX_PATTERNS:
        raise InvalidInput("outputs", patterns, f"at most {MAX_PATTERNS} patterns")
    for pattern in patterns:
        if not (isinstance(pattern, str) and pattern and len(pattern) <= MAX_PATTERN and pattern.isprintable()):
            raise InvalidInput("outputs", pattern, f"1 to {MAX_PATTERN} characters without line breaks")
        if ".." in pattern.split("/"):
            raise InvalidInput("outputs", pattern, "a pattern begins at the working directory, or is absolute")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(name, value, "True or False")


def _check_env(env: object) -> None:
    if not isinstance(env, Mapping):
        raise InvalidInput("env", env, "a mapping of names to text")
    total = 0
    for key, value in env.items():
        total += check_env_entry("env", key, value)
    if total > MAX_ENV_TOTAL:
        raise InvalidInput("env", f"{len(env)} entries", f"at most {MAX_ENV_TOTAL} bytes in all, these have {total}")


def check_env_entry(name: str, key: object, value: object) -> int:
    """Return the bytes that one entry of an environment takes; `name` is the argument's.

    Raises:
        InvalidInput: the key is no name, or the value can't be in an environment.
    """
    if not (isinstance(key, str) and _ENV_KEY.fullmatch(key)):
        raise InvalidInput(name, key, "a name is letters, digits and '_', and does not begin with a digit")
    where = f"{name}[{key!r}]"
    if not isinstance(value, str):
        raise InvalidInput(where, value, "give text")
    if "\0" in value:
        raise InvalidInput(where, value, "a NUL character can't be in an environment")
    try:
        size = len(key) + len(value.encode()) + 2
    except UnicodeEncodeError as error:
        raise InvalidInput(where, value, f"character {error.start} is no text") from None
    if size > MAX_ENV_ENTRY:
        raise InvalidInput(where, value, f"name and value take at most {MAX_ENV_ENTRY} bytes, these take {size}")
    return size
