"""One job: a bash script in a VM of its own, and what comes out of it.

python examples/hello.py
"""

from __future__ import annotations

from magpie_local import Magpie

with Magpie() as client:
    job = client.jobs.run_and_wait(
        name="hello",
        script="""
            echo "Hello from $(hostname), kernel $(uname -r)"
            python3 -c 'print("6 * 7 =", 6 * 7)'
        """,
        env={"GREETING": "seen by the script as a variable"},
        timeout=300,
    )
    print(job.status, "with exit code", job.exit_code)
    print(client.jobs.get_logs(job.id), end="")
