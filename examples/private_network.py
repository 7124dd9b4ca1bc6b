"""Two VMs on a private network: a server, which a client in another VM finds by the name of its job.

VMs elsewhere do not reach it, and neither VM reaches anything outside the network.

    python examples/private_network.py
"""

from __future__ import annotations

from magpie_local import Magpie

NETWORK = "example"
SERVER = """
cd /tmp && echo 'an answer from the server' > index.html
(python3 -m http.server 8000 --bind :: >/dev/null 2>&1 &)
until curl -sf localhost:8000 >/dev/null; do sleep 0.1; done
"""

with Magpie() as client:
    client.networks.create(NETWORK, "10.20.0.0/24")
    server = client.jobs.create(name="server", script=SERVER, persistent=True, network=NETWORK)
    try:
        server = client.jobs.wait(server.id)  # for the end of the script; the VM goes on
        print("the server is at", server.address)

        asked = client.jobs.run_and_wait(name="client", script="curl -sS http://server:8000/", network=NETWORK)
        print("on the network:", client.jobs.get_logs(asked.id).strip())

        script = f"curl -sS -m 5 http://{server.address}:8000/ 2>/dev/null || echo nobody there"
        asked = client.jobs.run_and_wait(name="stranger", script=script)
        print("elsewhere:", client.jobs.get_logs(asked.id).strip())
    finally:
        client.jobs.delete(server.id, force=True)
        client.networks.remove(NETWORK)
