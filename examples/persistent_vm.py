"""A VM that stays: its script sets it up, then you work in it, by SSH, by commands, and through a forwarded port.

python examples/persistent_vm.py
"""

from __future__ import annotations

import shlex
import subprocess
import urllib.request

from magpie_local import Magpie

SETUP = """
mkdir -p /srv/site && echo 'served by the VM' > /srv/site/index.html
cd /srv/site && (python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &)
until curl -sf localhost:8000 >/dev/null; do sleep 0.1; done
"""

with Magpie() as client:
    vm = client.jobs.create(name="dev", script=SETUP, persistent=True)
    try:
        vm = client.jobs.wait(vm.id)  # for the end of the script; the VM goes on
        print("status:", vm.status)

        door = client.jobs.ssh(vm.id)
        print("paste this into a terminal:", door.command)
        asked = subprocess.run([*shlex.split(door.command), "id -un"], capture_output=True, text=True, check=True)
        print("by ssh I am", asked.stdout.strip())

        result = client.jobs.exec(vm.id, ["ls", "/srv/site"], timeout=30)
        print("exec:", result.exit_code, result.stdout.strip())

        with client.jobs.forward(vm.id, 8000) as bound:
            url = f"http://{bound.host}:{bound.port}/"
            with urllib.request.urlopen(url) as answer:
                print("forwarded port:", answer.read().decode().strip())
    finally:
        client.jobs.delete(vm.id, force=True)
