"""A notebook's kernel as its front end sees it, with every byte counted at the socket."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from jupyter_client.blocking.client import BlockingKernelClient

_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 120.0
#: Seconds within which messages are one update to whoever looks: the parts of a widget come in several.
_MOMENT = 0.02
#: Messages that change what a cell shows.
_CHANGES = {"stream", "display_data", "update_display_data", "execute_result", "comm_open", "comm_msg"}


@dataclass
class Cell:
    """One run of a cell: what came for it, and when."""

    sent_at: float
    #: When the first text of its script came, and when the kernel was through with it; 0.0 before that.
    first_at: float = 0.0
    idle_at: float = 0.0
    #: Bytes on the wire, messages that changed what is shown, and the moments at which they came, with the last.
    size: int = 0
    messages: int = 0
    updates: int = 0
    updated_at: float = 0.0
    #: Its outputs as a saved notebook holds them; those with a display id by that.
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""

    @property
    def is_final(self) -> bool:
        """Whether a display tells that its job has succeeded."""
        texts = (str(one.get("data", {}).get("text/plain", "")) for one in self.outputs.values())
        return any(text.startswith("✓") for text in texts)


class Kernel:
    """A kernel with the extension loaded, on the fake hypervisor and a state directory of its own.

    Args:
        folder: for the state directory and as the kernel's working directory; short enough for sockets.
    """

    def __init__(self, folder: Path) -> None:
        self._manager = KernelManager(kernel_name="python3")
        spec = self._manager.kernel_spec
        assert spec is not None
        spec.argv = [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=40",
            "--HistoryManager.enabled=False",
        ]  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAGPIE_")}
        own = {"HOME": str(folder / "state"), "HYPERVISOR": "fake", "CPUS": "16", "KEEPER": "false", "POOL": "0"}
        ours = {f"MAGPIE_{name}": value for name, value in own.items()} | {"MAGPIE_TEMPLATES": "0"}
        self._env = {**inherited, **ours, "PYTHONPATH": str(_ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        self._folder = folder
        self._cells: dict[str, Cell] = {}
        self._owners: dict[str, Cell] = {}

    def __enter__(self) -> Self:
        self._manager.start_kernel(env=self._env, cwd=str(self._folder))
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_PATIENCE)
        self.run("%load_ext magpie_local")
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)
        self._manager.cleanup_resources()

    def cpu(self) -> float:
        """Return the seconds of CPU that the kernel's process has taken so far; VMs are other processes."""
        process = self._manager.provisioner.process  # type: ignore[union-attr]  # the local one
        assert process is not None
        taken = psutil.Process(process.pid).cpu_times()
        return float(taken.user + taken.system)

    def begin(self, code: str, cell_id: str = "cell") -> Cell:
        """Send a cell, as a notebook does in which somebody sits."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": False}
        message = self._client.session.msg("execute_request", {**content, "user_expressions": {}})
        message["metadata"]["cellId"] = cell_id
        cell = self._cells[message["header"]["msg_id"]] = Cell(time.monotonic())
        self._client.shell_channel.send(message)
        return cell

    def run(self, code: str, cell_id: str = "cell") -> Cell:
        """Run a cell to its end, which must not be an error."""
        cell = self.begin(code, cell_id)
        self.until(lambda: cell.idle_at)
        assert not cell.error, cell.error
        return cell

    def interrupt(self) -> None:
        """Press the notebook's stop button."""
        self._manager.interrupt_kernel()

    def until(self, holds: Callable[[], object]) -> None:
        """Listen until something holds."""
        give_up = time.monotonic() + _PATIENCE
        while not holds():
            assert time.monotonic() < give_up, "the kernel does not get there"
            self._listen()

    def _listen(self) -> None:
        channel, session = self._client.iopub_channel.socket, self._client.session
        assert channel is not None
        if not channel.poll(100):
            return
        frames = channel.recv_multipart()
        arrived = time.monotonic()
        _, parts = session.feed_identities(frames)
        message = session.deserialize(parts)
        cell = self._owner(message)
        if cell is not None:
            cell.size += sum(map(len, frames))
            if message["msg_type"] in _CHANGES:
                cell.messages += 1
                if arrived - cell.updated_at > _MOMENT:
                    cell.updates += 1
                    cell.updated_at = arrived
            _take(cell, message, arrived)

    def _owner(self, message: Mapping[str, Any]) -> Cell | None:
        """Return the cell that a message is about; an update is about the cell of its display, whoever sends it."""
        identity = message["content"].get("transient", {}).get("display_id")
        if message["msg_type"] == "update_display_data":
            return self._owners.get(identity)
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if cell is not None and identity:
            self._owners[identity] = cell
        return cell


def _take(cell: Cell, message: Mapping[str, Any], arrived: float) -> None:
    """Enter a message into its cell."""
    content, kind = message["content"], message["msg_type"]
    if kind == "stream":
        cell.first_at = cell.first_at or arrived
        made = cell.outputs.setdefault(content["name"], {"output_type": "stream", "name": content["name"], "text": ""})
        made["text"] += content["text"]
    elif kind in ("display_data", "update_display_data"):
        identity = content.get("transient", {}).get("display_id", str(len(cell.outputs)))
        cell.outputs[identity] = {"output_type": "display_data", "data": content["data"], "metadata": {}}
    elif kind == "error":
        cell.error = f"{content['ename']}: {content['evalue']}"
    elif kind == "status" and content["execution_state"] == "idle":
        cell.idle_at = arrived
