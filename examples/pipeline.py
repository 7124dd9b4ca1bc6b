"""A pipeline of jobs on one workspace: a disk that each of them finds as the one before has left it.

A snapshot keeps what an expensive step has made. When a later step spoils it, a rollback brings it back.

    python examples/pipeline.py
"""

from __future__ import annotations

from magpie_local import Magpie

WORKSPACE = "example-pipeline"


def step(client: Magpie, name: str, script: str) -> bool:
    """Run one step in a fresh VM; its working directory is the workspace."""
    job = client.jobs.run_and_wait(name=name, script=script, stateful=True, workspace_id=WORKSPACE)
    print(f"--- {name}: {job.status}\n{client.jobs.get_logs(job.id)}", end="")
    return job.success


def main() -> None:
    """Fetch, spoil, mend, report."""
    with Magpie() as client:
        try:
            step(client, "fetch", "seq 1 1000 > numbers.txt; wc -l < numbers.txt")
            client.workspaces.snapshot(WORKSPACE, "fetched")
            if not step(client, "clean", "echo oops > numbers.txt; exit 1"):
                client.workspaces.rollback(WORKSPACE, "fetched")
            step(client, "report", "awk '{ sum += $1 } END { print \"sum\", sum }' numbers.txt")
        finally:
            client.workspaces.delete(WORKSPACE)


main()
