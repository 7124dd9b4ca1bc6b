"""Settings: defaults < configuration file < MAGPIE_* environment < arguments, each value with its origin.

    home           MAGPIE_HOME            the state directory
    images         MAGPIE_IMAGES          built images
    hypervisor     MAGPIE_HYPERVISOR      libvirt, or fake (local processes instead of VMs: for tests)
    libvirt_uri    MAGPIE_LIBVIRT_URI     a connection of your own instead of the automatic choice
    accelerator    MAGPIE_ACCELERATOR     auto, kvm or tcg
    boot_timeout   MAGPIE_BOOT_TIMEOUT    longest time from a VM's start to its agent's answer
    stop_grace     MAGPIE_STOP_GRACE      time between SIGTERM and SIGKILL
    log_limit      MAGPIE_LOG_LIMIT       most output kept of a job that names no limit of its own
    cpus           MAGPIE_CPUS            virtual CPUs of all running VMs together
    memory         MAGPIE_MEMORY          memory of all running VMs together
    keeper         MAGPIE_KEEPER          whether a process that leaves hands its unfinished jobs to a keeper
    templates      MAGPIE_TEMPLATES       disk space of all templates; 0: every VM boots afresh
    pool           MAGPIE_POOL            forks kept waiting for a job, per shape; 0: none
    pool_memory    MAGPIE_POOL_MEMORY     memory of all waiting forks together
    pool_shapes    MAGPIE_POOL_SHAPES     IMAGE:VCPUS:MIB, with commas between them; none: those used lately
    network        MAGPIE_NETWORK         of jobs that name none: default (out to the internet) or none
    lan            MAGPIE_LAN             whether the default network leads to private ranges and neighbours
    share_proxies  MAGPIE_SHARE_PROXIES   whether guests get this machine's proxies, package indexes and authorities

The file is TOML with the same keys: `config.toml` in the user's configuration folder, or the path in MAGPIE_CONFIG.
An empty environment variable counts as unset.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from magpie_local.domain import pooling
from magpie_local.domain.layout import Layout
from magpie_local.domain.network import DEFAULT, RESERVED
from magpie_local.domain.sizes import GIB, MIB, format_bytes, parse_duration, parse_size
from magpie_local.domain.spec import MIN_LOG_LIMIT, HostLimits
from magpie_local.errors import InvalidInput, MagpieError, StateUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from magpie_local.domain.shape import Shape

HYPERVISORS = ("libvirt", "fake")
ACCELERATORS = ("auto", "kvm", "tcg")
#: Below the run directory libvirt needs 62 bytes for a QEMU monitor's socket, and a socket path holds 107 (F110).
MAX_RUN_PATH = 44

_APP = "magpie_local"
_DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user can choose. Make one with `load`, which checks every value."""

    home: Path
    images: Path
    hypervisor: str
    #: None: chosen automatically (session for an ordinary user with libvirtd, embed otherwise).
    libvirt_uri: str | None
    accelerator: str
    #: Seconds.
    boot_timeout: float
    #: Seconds.
    stop_grace: float
    #: Bytes.
    log_limit: int
    cpus: int
    #: Bytes.
    memory: int
    keeper: bool
    #: Bytes.
    templates: int
    pool: int
    #: Bytes.
    pool_memory: int
    #: Empty: those used lately.
    pool_shapes: tuple[Shape, ...]
    network: str
    lan: bool
    share_proxies: bool
    #: Where each value came from, in words.
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def memory_mb(self) -> int:
        """The memory budget in whole MiB."""
        return self.memory // MIB

    def values(self) -> dict[str, object]:
        """Return the settings by name, without their origins."""
        return {name: getattr(self, name) for name in KEYS}

    def environment(self) -> dict[str, str]:
        """Return the MAGPIE_* variables that reproduce these settings in a child process."""
        return {variable(key): _written(value) for key, value in self.values().items() if value is not None}


def load(environ: Mapping[str, str] | None = None, **arguments: object) -> Settings:
    """Return the settings; an argument that is None counts as not given.

    Raises:
        InvalidInput: names the key, the value, what is allowed, and where the value came from.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins = dict.fromkeys(KEYS, _DEFAULT)
    for origin, layer in _layers(environ, arguments):
        for key, value in layer.items():
            where = f"{origin} {variable(key)}" if origin == "environment" else origin
            values[key] = _parsed(key, value, where)
            origins[key] = where
    for key, parameter in _PARAMETERS.items():
        if key not in values:
            values[key] = parameter.default()
    _fit_pool(values, origins)
    return Settings(**values, origins=MappingProxyType(origins))


def host_limits(min_memory_mb: int = 64) -> HostLimits:
    """Return what one VM may have here: CPUs may be overcommitted up to 16, memory may not."""
    return HostLimits(vcpus=max(16, os.cpu_count() or 1), memory_mb=_host_memory() // MIB, min_memory_mb=min_memory_mb)


def variable(key: str) -> str:
    """Return the environment variable of a setting."""
    return f"MAGPIE_{key.upper()}"


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the configuration file, which need not exist."""
    environ = os.environ if environ is None else environ
    if chosen := environ.get("MAGPIE_CONFIG"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_config_path(_APP) / "config.toml"


def misspelt(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return MAGPIE_* variables that nothing reads but whose names are close to one that is, with that one.

    They are no errors: other programs may use the prefix.
    """
    known = {"MAGPIE_CONFIG", *map(variable, KEYS)}
    names = (name for name in (os.environ if environ is None else environ) if name.startswith("MAGPIE_"))
    return {name: near for name in names if name not in known and (near := _nearest(name, known, cutoff=0.85))}


def cache_dir() -> Path:
    """Return the folder for what can be made again (verdicts of probes, QEMU's capabilities); need not exist."""
    import platformdirs

    return platformdirs.user_cache_path(_APP)


def secret_key() -> Path:
    """Return the file of the key that secrets of queued jobs are kept under; outside of every state directory."""
    import platformdirs

    return platformdirs.user_config_path(_APP) / "secret.key"


def runtime_dir(home: Path) -> Path:
    """Return the folder for sockets of the state directory `home`; it follows from `home` and the user alone.

    XDG_RUNTIME_DIR is the last choice, though made for sockets: processes with another one (cron, su) would not
    find each other, and the system empties it at log-out, under VMs that still run.

    Raises:
        StateUnavailable: no candidate is short enough for a socket's path.
    """
    short = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    shared = Path("/run/magpie") if os.geteuid() == 0 else Path.home() / ".cache" / "magpie"
    candidates = [home / "run", shared / short]
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(session) / "magpie" / short)
    for candidate in candidates:
        if len(os.fsencode(candidate)) <= MAX_RUN_PATH:
            return candidate
    raise StateUnavailable(
        f"No place for sockets: each of {', '.join(map(str, candidates))} is longer than {MAX_RUN_PATH} bytes.",
        hint=f"Choose a shorter state directory with MAGPIE_HOME (at most {MAX_RUN_PATH - 4} bytes).",
    )


def layout(settings: Settings) -> Layout:
    """Return the paths of the state directory; creates nothing."""
    return Layout(root=settings.home, run=runtime_dir(settings.home))


@dataclass(frozen=True, slots=True)
class _Parameter:
    """How one setting is read, and what it is when nobody sets it."""

    parse: Callable[[str, object], object]
    default: Callable[[], object]


def _layers(environ: Mapping[str, str], arguments: Mapping[str, object]) -> list[tuple[str, Mapping[str, object]]]:
    path = config_file(environ)
    from_environment = {key: value for key in KEYS if (value := environ.get(variable(key)))}
    from_arguments = {key: value for key, value in arguments.items() if value is not None}
    return [
        (f"file {path}", _read_file(path, required=bool(environ.get("MAGPIE_CONFIG")))),
        ("environment", from_environment),
        ("argument", from_arguments),
    ]


def _read_file(path: Path, *, required: bool) -> Mapping[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not required:
            return {}
        raise InvalidInput("MAGPIE_CONFIG", str(path), "the file must exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("configuration file", str(path), f"it can't be read: {error}") from None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("configuration file", str(path), f"it must be TOML: {error}") from None


def _parsed(key: str, value: object, origin: str) -> object:
    hint = f"The value came from: {origin}."
    parameter = _PARAMETERS.get(key)
    if parameter is None:
        near = _nearest(key, KEYS, cutoff=0.5)
        allowed = f"did you mean {near!r}?" if near else f"settings are {', '.join(KEYS)}"
        raise InvalidInput("setting", key, allowed, hint=hint)
    try:
        return parameter.parse(key, value)
    except MagpieError as error:
        error.hint = hint
        raise


def _fit_pool(values: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Have the usual pool fit into its memory; one that somebody asked for must."""
    memory, shapes = values["pool_memory"], values["pool_shapes"]
    if origins["pool"] == _DEFAULT:
        # Of shapes that somebody named at least one fork each must fit; else there is a smaller pool, or none.
        least = 1 if shapes and memory else 0
        values["pool"] = max(least, min(pooling.USUAL, pooling.fitting(memory, shapes)))
    hint = "".join(f"The value of {key} came from: {origins[key]}. " for key in ("pool", "pool_memory")).rstrip()
    pooling.check_pool(values["pool"], memory, shapes, hint=hint)


def _nearest(name: str, known: Mapping[str, object] | set[str] | tuple[str, ...], cutoff: float) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return pooling.write_shapes(value)
    return f"{value:f}" if isinstance(value, float) else str(value)


def _path(key: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value) or "\0" in os.fsdecode(value):
        raise InvalidInput(key, value, "the path of a folder")
    path = Path(os.fsdecode(value)).expanduser().absolute()
    if not os.fsdecode(path).isprintable():
        raise InvalidInput(key, value, "a path without line breaks or other control characters")
    return path


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise InvalidInput(key, value, "one line of text")
    return value


def _one_of(choices: tuple[str, ...]) -> Callable[[str, object], str]:
    def parse(key: str, value: object) -> str:
        if value not in choices:
            raise InvalidInput(key, value, f"one of {', '.join(choices)}")
        return str(value)

    return parse


def _seconds(least: float) -> Callable[[str, object], float]:
    def parse(key: str, value: object) -> float:
        seconds = parse_duration(key, value)  # type: ignore[arg-type]  # it checks the type itself
        if not least <= seconds <= 86400:
            raise InvalidInput(key, value, f"from {least:g} s to 1 day")
        return seconds

    return parse


def _bytes(least: int) -> Callable[[str, object], int]:
    def parse(key: str, value: object) -> int:
        size = parse_size(key, value)  # type: ignore[arg-type]  # it checks the type itself
        if size < least:
            raise InvalidInput(key, value, f"at least {format_bytes(least)}")
        return size

    return parse


def _budget(key: str, value: object) -> int:
    try:
        return parse_size(key, value)  # type: ignore[arg-type]  # it checks the type itself
    except InvalidInput:
        raise InvalidInput(key, value, "a size like 8GiB, or 0 to do without") from None


def _pool_memory(key: str, value: object) -> int:
    size, most = _budget(key, value), _host_memory()
    if size > most:
        raise InvalidInput(key, value, f"this machine has {format_bytes(most)}")
    return size


def _count(least: int, most: int) -> Callable[[str, object], int]:
    def parse(key: str, value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidInput(key, value, f"a whole number from {least} to {most}")
        return value

    return parse


def _shapes(key: str, value: object) -> tuple[Shape, ...]:
    return pooling.parse_shapes(key, value, host_limits())


def _flag(key: str, value: object) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    flag = value if isinstance(value, bool) else words.get(value.lower()) if isinstance(value, str) else None
    if flag is None:
        raise InvalidInput(key, value, "true or false")
    return flag


def _default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib") / _APP
    import platformdirs

    return platformdirs.user_state_path(_APP)


def _default_images() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib") / _APP / "images"
    import platformdirs

    return platformdirs.user_data_path(_APP) / "images"


def _host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


_PARAMETERS: dict[str, _Parameter] = {
    "home": _Parameter(_path, _default_home),
    "images": _Parameter(_path, _default_images),
    "hypervisor": _Parameter(_one_of(HYPERVISORS), lambda: "libvirt"),
    "libvirt_uri": _Parameter(_text, lambda: None),
    "accelerator": _Parameter(_one_of(ACCELERATORS), lambda: "auto"),
    "boot_timeout": _Parameter(_seconds(0.1), lambda: 120.0),
    "stop_grace": _Parameter(_seconds(0), lambda: 5.0),
    "log_limit": _Parameter(_bytes(MIN_LOG_LIMIT), lambda: 16 * MIB),
    "cpus": _Parameter(_count(1, 4096), lambda: 2 * len(os.sched_getaffinity(0))),
    # Virtual CPUs share the host's cores; memory is really taken, so a quarter stays with the host.
    "memory": _Parameter(_bytes(64 * MIB), lambda: _host_memory() * 3 // 4 // MIB * MIB),
    "keeper": _Parameter(_flag, lambda: True),
    "templates": _Parameter(_budget, lambda: 8 * GIB),
    "pool": _Parameter(_count(0, 64), lambda: pooling.USUAL),
    "pool_memory": _Parameter(_pool_memory, lambda: _host_memory() // 8 // MIB * MIB),
    "pool_shapes": _Parameter(_shapes, tuple),
    "network": _Parameter(_one_of(RESERVED), lambda: DEFAULT),
    "lan": _Parameter(_flag, lambda: False),
    "share_proxies": _Parameter(_flag, lambda: False),
}
KEYS = tuple(_PARAMETERS)
