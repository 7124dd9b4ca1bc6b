"""`secret_env=` through both clients: the script has it, and no traceback of theirs shows it."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from magpie_local import AsyncMagpie, config
from magpie_local.errors import MagpieError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Verb = Callable[..., Any]

SMALL = {"memory_mb": 64}
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(params=["Magpie", "AsyncMagpie"])
def call(request: pytest.FixtureRequest, home) -> Iterator[Callable[..., Any]]:
    """Return what calls a verb of one of both clients, to its end."""
    if request.param == "Magpie":
        with home.client() as client:
            yield lambda verb, *args, **options: getattr(client.jobs, verb)(*args, **options)
        return
    with asyncio.Runner() as runner:
        made = AsyncMagpie(settings=config.load({**home.environment, "MAGPIE_KEEPER": "false"}))

        def call(verb: str, *args: Any, **options: Any) -> Any:
            async def awaited() -> Any:
                result = getattr(made.jobs, verb)(*args, **options)
                return await result if inspect.isawaitable(result) else result

            return runner.run(awaited())

        yield call
        runner.run(made.close())


def test_scripts_and_commands_have_it(call: Verb, scripts, canary: str, entered: None) -> None:
    secret = {"TOKEN": canary}
    ended = call("run_and_wait", "job", scripts.PROVE, secret_env=secret, **SMALL)
    assert call("get_logs", ended.id) == scripts.proof(canary)
    assert (ended.secrets, canary in repr(ended)) == (("TOKEN",), False)
    kept = call("create", "kept", "true", persistent=True, secret_env=secret, **SMALL)
    call("wait", kept.id, timeout=30)
    assert call("exec", kept.id, scripts.PROVE, secret_env=secret).stdout == scripts.proof(canary)
    assert call("exec", kept.id, 'echo "$TOKEN"', secret_env=secret).stdout == "***\n"
    # What the job was given, its commands do not have; and what is no secret is not masked.
    assert call("exec", kept.id, 'echo "<$TOKEN> $MODE"', env={"MODE": "fast"}).stdout == "<> fast\n"
    call("stop", kept.id)


def test_output_that_is_over_the_limit_is_masked_before_it_is_cut(call: Verb, canary: str, entered: None) -> None:
    kept = call("create", "kept", "true", persistent=True, **SMALL)
    call("wait", kept.id, timeout=30)
    size = 16 * 1024 * 1024
    flood = f'head -c {size - 5} /dev/zero | tr "\\0" x; echo -n "$TOKEN"; head -c 1000 /dev/zero'
    result = call("exec", kept.id, flood, secret_env={"TOKEN": canary})
    assert (result.truncated, len(result.stdout_bytes)) == (True, size)
    assert result.stdout_bytes.endswith(b"x***\0\0")
    call("stop", kept.id)


@pytest.mark.parametrize(
    ("verb", "arguments", "options"),
    [
        ("create", ["job", "true"], {"memory_mb": -1}),
        ("create", ["", "true"], SMALL),
        ("create", ["job", "true"], {"no_such_option": 1}),
        ("create", ["job", "true"], {"image": "missing"}),
        ("create", ["job", "true"], {"env": {"TOKEN": "x"}}),
        ("create", ["job", "true"], {"env": 5}),
        ("create", ["job", "true"], {"uploads": {"x": "/no/such/file"}}),
        ("run_and_wait", ["job", "true"], {"poll_interval": -1}),
        ("exec", [NOBODY, "true"], {}),
        ("exec", ["no id", "true"], {}),
        ("exec", [NOBODY, "true"], {"timeout": -1}),
        ("exec", [NOBODY, "true"], {"env": {"TOKEN": "x"}}),
        ("exec", [NOBODY, "true"], {"env": 5}),
    ],
)
def test_an_error_shows_no_secret_in_any_frame(
    call: Verb, search, canary: str, verb: str, arguments: list[Any], options: dict[str, Any]
) -> None:
    caught = _caught(call, canary, verb, *arguments, **options)

    _look(search, caught)
    assert search.hits == set()
    assert search.looked["text"] > 5


@pytest.mark.parametrize(
    ("command", "options"),
    [("x" * 200_000, {}), ("x\0y", {}), ([], {}), ("true", {"cwd": "a\0b"}), ("true", {"env": {"1KEY": "x"}})],
    ids=["long", "NUL", "empty", "cwd", "name"],
)  # fmt: skip
def test_an_error_of_a_command_shows_no_secret_in_any_frame_of_a_client(
    call: Verb, search, canary: str, entered: None, command: Any, options: dict[str, Any]
) -> None:
    kept = call("create", "kept", "true", persistent=True, **SMALL)
    call("wait", kept.id, timeout=30)

    _look(search, _caught(call, canary, "exec", kept.id, command, **options))

    assert search.hits == set()
    call("stop", kept.id)


def _caught(call: Verb, canary: str, verb: str, *arguments: Any, **options: Any) -> BaseException:
    try:
        call(verb, *arguments, secret_env={"TOKEN": canary}, **options)
    except (MagpieError, TypeError, OSError) as error:
        return error
    raise AssertionError("it was not refused")


def _look(search, error: BaseException | None) -> None:
    """Look through each frame of ours that a traceback would show, and those of what it was raised from."""
    while error is not None:
        search.text("error", str(error))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "/magpie_local/" in frame.f_code.co_filename:
                for name, value in frame.f_locals.items():
                    search.text(f"{name} of {frame.f_code.co_qualname}", repr(value))
        error = error.__cause__ or error.__context__
