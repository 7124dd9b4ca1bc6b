"""What makes a job that a client returned a handle: it knows the client, and so can be waited for, read and stopped.

A job stays a snapshot: these verbs ask the client, and return news instead of changing it. The tie to the client is no
field: it is not compared, not shown, not copied and not pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from magpie_local.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from magpie_local.api.models import Job
    from magpie_local.api.runtime import Runtime

J = TypeVar("J", bound="JobHandle")


class Client(Protocol):
    """What a job asks of its client: the verbs of `client.jobs`, blocking or awaited as they are there."""

    def get(self, job_id: str) -> Any:
        """Return it as it is now."""

    def wait(self, job_id: str, timeout: float | None = None) -> Any:
        """Return it when it has ended."""

    def get_logs(self, job_id: str, tail: int | None = None) -> Any:
        """Return the output as text."""

    def stream_logs(self, job_id: str, *, follow: bool = True) -> Any:
        """Yield the output."""

    def stop(self, job_id: str) -> Any:
        """Stop it."""

    def interrupt(self, job_id: str) -> Any:
        """Send it SIGINT."""

    def _picture(self, job: Job) -> dict[str, Any]:
        """Return how a notebook shows it."""

    @property
    def _runtime(self) -> Runtime:
        """The engine behind it."""


class JobHandle:
    """The verbs of a job that a client has returned; with AsyncMagpie those that ask return something to await."""

    __slots__ = ("_client",)
    id: str

    def refresh(self) -> Any:
        """Return the job as it is now."""
        return self._bound().get(self.id)

    def wait(self, timeout: float | None = None) -> Any:
        """Return the job when it has ended.

        Raises:
            WaitTimeout: it has not within `timeout` seconds; it goes on.
        """
        return self._bound().wait(self.id, timeout)

    def logs(self, *, follow: bool = False, tail: int | None = None) -> Any:
        """Return the output so far as text, or its last `tail` lines; with `follow`, LogChunks until the job's end."""
        if follow:
            return self._bound().stream_logs(self.id)
        return self._bound().get_logs(self.id, tail)

    def stop(self) -> Any:
        """Stop the job (SIGTERM, a grace period, then the VM's end), and return when it has stopped."""
        return self._bound().stop(self.id)

    def interrupt(self) -> Any:
        """Have SIGINT sent to the script, as Ctrl-C does in a terminal; returns at once."""
        return self._bound().interrupt(self.id)

    def __await__(self) -> Generator[Any, None, Job]:
        """Return the job when it has ended. An interrupt of the awaiting cell lands within a fifth of a second."""
        return self._ended().__await__()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        client: Client | None = getattr(self, "_client", None)
        return {"text/plain": repr(self)} if client is None else client._picture(cast("Job", self))

    async def _ended(self) -> Job:
        client = self._bound()
        runtime = client._runtime
        return bound(await runtime.await_call(runtime.jobs.wait(self.id)), client)

    def _bound(self) -> Client:
        client: Client | None = getattr(self, "_client", None)
        if client is None:
            raise ClientClosed(
                "This job was copied or loaded, and has no client.",
                hint=f"Ask one for it: Magpie().jobs.get({self.id!r}).",
            )
        return client


def bound(job: J, client: Client) -> J:
    """Return `job`, tied to the client that its verbs ask."""
    object.__setattr__(job, "_client", client)
    return job


def bound_all(jobs: Iterable[J], client: Client) -> list[J]:
    """Return jobs that are all tied to a client."""
    return [bound(job, client) for job in jobs]
