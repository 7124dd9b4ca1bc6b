"""What a job may be asked for beside its name, script and size: named once, for both clients and for people's tools."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from magpie_local.domain.secret import Secrets
from magpie_local.domain.sizes import GIB, parse_duration
from magpie_local.domain.spec import JobSpec, script_bytes
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    F = TypeVar("F", bound=Callable[..., Any])


class JobOptions(TypedDict, total=False):
    """The keyword arguments of `jobs.create`, of which all may be left out.

    Errors in any are InvalidInput, before anything is stored or started.
    """

    #: A disk that outlives the job is mounted at /workspace.
    stateful: bool
    #: Which one; lower-case letters, digits and hyphens. The first job that names it makes it; None is the job's id.
    workspace_id: str | None
    #: GiB, of a new workspace (10); one that exists keeps its size.
    workspace_size_gb: int | None
    #: The workspace whose content a new one begins with; that one is never changed by it.
    base_workspace_id: str | None
    #: The VM stays after the script, until the job is stopped.
    persistent: bool
    #: Seconds, or text like "10m", without a connection after which such a VM sleeps until it is used; None: never.
    idle_pause: float | str | None
    #: The name of an IPv6 address that the VM has on its network: the same one whenever that name is asked for.
    ipv6_lease: str | None
    #: "default" leads out to the internet, and not to this machine; "none" nowhere; a name is that of a private network
    #: between VMs (client.networks). None takes the setting, which is "default" unless somebody chose otherwise.
    network: str | None
    #: Files and folders for the guest, before the script: by their path there (relative ones begin at the working
    #: directory) bytes, a path of this machine, or (bytes, mode); or a list of paths.
    uploads: Mapping[str, Any] | Sequence[str | PathLike[str]] | None
    #: Patterns of files that are collected when the script has ended, relative to its working directory.
    outputs: Sequence[str]
    #: Most bytes of them.
    outputs_limit: int
    #: Environment of the script.
    env: Mapping[str, str] | None
    #: Further entries of it, which nobody but the script sees: stored sealed, and shown as `***`.
    secret_env: Mapping[str, str] | None
    #: Seconds that the script may run; None is no limit.
    timeout: float | None
    #: What the VM boots ("base").
    image: str
    #: Free text.
    description: str
    #: Bytes of output kept, head and tail; None takes the setting.
    log_limit: int | None
    #: "shared" lets the VM be a fork, which shares unchanged memory pages with others of its template; "private" has
    #: it boot afresh.
    isolation: str


DEFAULTS: dict[str, Any] = {
    "stateful": False, "workspace_id": None, "workspace_size_gb": None, "base_workspace_id": None,
    "persistent": False, "idle_pause": None, "ipv6_lease": None, "network": None, "env": None, "secret_env": None,
    "timeout": None, "image": "base", "description": "", "log_limit": None, "isolation": "shared",
    "uploads": None, "outputs": (), "outputs_limit": GIB,
}  # fmt: skip


def spec_of(
    name: str,
    script: str | bytes,
    vcpus: int,
    memory_mb: int,
    options: Mapping[str, Any],
    *,
    log_limit: int,
    network: str,
) -> JobSpec:
    """Return what is asked for; `log_limit` and `network` are the settings.

    Raises:
        TypeError: an option is unknown.
        InvalidInput: the script is no text.
    """
    for key in options:
        if key not in DEFAULTS:
            raise TypeError(f"create() got an unexpected keyword argument {key!r}")
    given = DEFAULTS | dict(options)
    given["secret_names"] = tuple(given.pop("secret_env") or ())  # sealed by whoever knows the job's id
    given.pop("uploads")  # packed by whoever knows the job's id
    if isinstance(given["idle_pause"], str):
        given["idle_pause"] = parse_duration("idle_pause", given["idle_pause"])
    given["outputs"] = patterns(given["outputs"])
    given["env"] = {} if given["env"] is None else given["env"]
    given["log_limit"] = log_limit if given["log_limit"] is None else given["log_limit"]
    given["network"] = network if given["network"] is None else given["network"]
    if not given["stateful"] and given["workspace_id"] is None:
        given["workspace_size_gb"] = None  # the seed's default, which means nothing without a workspace
    return JobSpec(name=name, script=script_bytes(script), vcpus=vcpus, memory_mb=memory_mb, **given)


def patterns(given: object) -> tuple[str, ...]:
    """Return patterns as a spec has them; one alone is no list of letters.

    Raises:
        InvalidInput: it is no list.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput("outputs", given, "a list of patterns")
    return tuple(given)


def veil(options: dict[str, Any]) -> None:
    """Put the secrets among a call's options into something that does not show them; before anything can fail.

    Raises:
        InvalidInput: one is not allowed.
    """
    if options.get("secret_env") is not None:
        # In one expression: no frame of ours holds them by another name.
        options["secret_env"] = Secrets(options.pop("secret_env"))


def with_veil(function: F) -> F:
    """Have `function` never hold secret_env in clear."""

    @functools.wraps(function)
    def veiled(*args: Any, **options: Any) -> Any:
        veil(options)
        return function(*args, **options)

    return cast("F", veiled)


def with_job_options(function: F) -> F:
    """Have `function`, which takes **options, show each with its default to people's tools, and veil secrets."""
    veiled = with_veil(function)
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    named = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[key], annotation=annotation)
        for key, annotation in JobOptions.__annotations__.items()
    ]
    veiled.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
    return veiled
