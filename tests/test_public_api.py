"""What users may rely on: the names, their signatures, their documentation, and that an import costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import magpie_local
from magpie_local import errors
from magpie_local.aio import AsyncJobs, AsyncMonitoring, AsyncTemplates
from magpie_local.api.monitoring import Monitoring
from magpie_local.api.workspace_faces import AsyncWorkspaces, Workspaces
from magpie_local.client import Jobs, Templates

NAMES = {
    "AsyncMagpie", "Confirmation", "ForkProof", "HostError", "InvalidInput", "Job", "JobActive", "JobFailed",
    "JobNotFound", "LogChunk", "Magpie", "MagpieError", "NotFound", "PoolStatus", "StateError", "TemplateInfo",
    "Unsupported", "WaitTimeout",
}  # fmt: skip
VERBS = {
    "exec", "files", "forward", "outputs", "ssh",
    "create", "run_and_wait", "get", "get_status", "get_logs", "stream_logs", "list", "wait", "stop", "request_stop",
    "interrupt", "delete", "story", "metrics", "stream_metrics", "sleep", "wake",
}  # fmt: skip
#: What else a client has: the blocking face, the other one, and their verbs.
OTHERS = [
    (Templates, AsyncTemplates, {"list", "remove", "warm"}),
    (Monitoring, AsyncMonitoring, {"pool", "engine", "usage"}),
    (Workspaces, AsyncWorkspaces, {
        "list", "get", "create", "delete", "resize", "snapshot", "snapshots", "rollback", "remove_snapshot", "clone",
        "export", "import_file",
    }),
]  # fmt: skip
#: Seed 000's own parameters, in its order.
SEED_CREATE = ["name", "script", "vcpus", "memory_mb", "stateful", "persistent", "ipv6_lease", "env", "timeout"]
HEAVY = {"aiosqlite", "libvirt", "asyncssh", "click", "IPython", "sqlite3", "asyncio", "platformdirs"}

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MagpieError)]


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(name, part.kind, part.default) for name, part in signature.parameters.items()]


def test_the_public_names_are_these():
    assert set(magpie_local.__all__) == NAMES
    assert len(magpie_local.__all__) <= 20


def test_every_public_name_is_there_and_listed():
    assert all(getattr(magpie_local, name).__name__ == name for name in NAMES)
    assert set(dir(magpie_local)) >= NAMES


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Magpye"):
        magpie_local.Magpye  # noqa: B018


def test_importing_costs_no_library():
    code = "import sys, magpie_local; print(*{name.partition('.')[0] for name in sys.modules})"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert HEAVY & set(loaded) == set()


def test_both_clients_have_the_same_verbs_with_the_same_parameters():
    assert set(public(Jobs)) == set(public(AsyncJobs)) == VERBS
    for verb in VERBS:
        assert parameters(getattr(Jobs, verb)) == parameters(getattr(AsyncJobs, verb)), verb


@pytest.mark.parametrize(("blocking", "awaited", "verbs"), OTHERS, ids=["templates", "monitoring", "workspaces"])
def test_the_other_verbs_are_alike_and_documented(blocking, awaited, verbs):
    assert set(public(blocking)) == set(public(awaited)) == verbs
    for verb in verbs:
        assert parameters(getattr(blocking, verb)) == parameters(getattr(awaited, verb)), verb
        assert inspect.getdoc(getattr(blocking, verb))
        assert inspect.getdoc(getattr(awaited, verb))


def test_the_proof_has_the_same_parameters_in_both_clients():
    assert parameters(magpie_local.Magpie.verify_forks) == parameters(magpie_local.AsyncMagpie.verify_forks)


def test_both_clients_are_opened_alike():
    assert parameters(magpie_local.Magpie) == parameters(magpie_local.AsyncMagpie)
    assert set(public(magpie_local.Magpie)) == set(public(magpie_local.AsyncMagpie))


@pytest.mark.parametrize("verb", ["create", "run_and_wait"])
def test_the_seeds_parameters_come_in_its_order(verb):
    names = [name for name, *_ in parameters(getattr(Jobs, verb))]

    assert [name for name in names if name in SEED_CREATE] == SEED_CREATE


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_is_documented(name):
    kind = getattr(magpie_local, name)

    assert inspect.getdoc(kind)
    assert [verb for verb, value in public(kind).items() if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_documented(verb):
    assert inspect.getdoc(getattr(Jobs, verb))
    assert inspect.getdoc(getattr(AsyncJobs, verb))


def test_every_error_has_a_code_of_its_own_and_an_exit_code():
    codes = [kind.code for kind in ERRORS]

    assert len(set(codes)) == len(codes)
    assert {kind.exit_code for kind in ERRORS} <= {2, 3, 255}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_tree_of_its_module(kind):
    assert f"{kind.__name__}" in (errors.__doc__ or "")


@pytest.mark.parametrize(
    "kind", [kind for kind in ERRORS if not issubclass(kind, errors.InvalidInput)], ids=lambda kind: kind.__name__
)
def test_every_error_says_something_by_itself(kind):
    error = kind()

    assert str(error).startswith(error.message)
    assert error.message.endswith(".")


def test_an_error_that_is_told_more_says_that_and_keeps_the_cure():
    error = errors.JobNotFound("There is no job 5.")

    assert str(error) == "There is no job 5.\n`magpie ps --all` lists the jobs of this state directory."
