"""Files in, files out, and a secret that only the script sees.

The secret is stored sealed until the job has ended, and is *** in the output and everywhere else.

    API_TOKEN=... python examples/secrets_and_outputs.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from magpie_local import Magpie

SCRIPT = """
echo "calling the service with the token $API_TOKEN"
mkdir -p results
sort data.csv > results/sorted.csv
printf %s "$API_TOKEN" | wc -c > results/length-of-the-token.txt
"""

with Magpie() as client, tempfile.TemporaryDirectory() as folder:
    job = client.jobs.run_and_wait(
        name="report",
        script=SCRIPT,
        uploads={"data.csv": b"pear,3\napple,1\nfig,2\n"},  # or a path of this machine
        outputs=["results/**"],
        secret_env={"API_TOKEN": os.environ.get("API_TOKEN", "not-a-real-token")},
    )
    print(job.status)
    print(client.jobs.get_logs(job.id), end="")
    client.jobs.outputs(job.id).download(folder)
    for path in sorted(Path(folder).rglob("*.*")):
        print(f"--- {path.relative_to(folder)}\n{path.read_text()}", end="")
