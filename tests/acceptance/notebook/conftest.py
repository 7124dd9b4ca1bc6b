"""A real kernel, driven through its protocol as a front end does, on the fake hypervisor."""

from __future__ import annotations

import os
import queue
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import KernelManager

from magpie_local import config

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

ROOT = Path(__file__).resolve().parents[3]
#: Seconds for anything that a kernel is asked for.
PATIENCE = 30.0


VIEW = "application/vnd.jupyter.widget-view+json"


class Widgets:
    """The widgets as their front end has them."""

    def __init__(self) -> None:
        #: Model id -> its state; what was closed is gone.
        self.states: dict[str, dict[str, Any]] = {}
        #: Model id -> how often its value was sent.
        self.writes: dict[str, int] = {}

    def hear(self, kind: str, content: dict[str, Any]) -> None:
        """Take in a message."""
        match kind:
            case "comm_open":
                self.states[content["comm_id"]] = dict(content["data"]["state"])
            case "comm_msg" if content["data"].get("method") == "update":
                self.states.setdefault(content["comm_id"], {}).update(content["data"]["state"])
                self.writes[content["comm_id"]] = self.writes.get(content["comm_id"], 0) + 1
            case "comm_close":
                self.states.pop(content["comm_id"], None)

    def within(self, model_id: str) -> Iterator[str]:
        """Yield a widget and all its parts, in order."""
        yield model_id
        for child in self.states.get(model_id, {}).get("children", ()):
            yield from self.within(child.removeprefix("IPY_MODEL_"))

    def html(self, model_id: str) -> str:
        """Return all HTML of a widget."""
        parts = [self.states.get(one, {}) for one in self.within(model_id)]
        return "\n".join(part["value"] for part in parts if part.get("_model_name") == "HTMLModel")

    def find(self, model_id: str, **wanted: str) -> str:
        """Return the first part of a widget whose state has these values."""
        return next(one for one in self.within(model_id) if wanted.items() <= self.states.get(one, {}).items())


@dataclass
class Cell:
    """A cell as its front end sees it: what it has shown, and how its run has ended."""

    msg_id: str
    #: (stream, text) in order.
    streams: list[tuple[str, str]] = field(default_factory=list)
    #: Display id -> its bundle as it is now; those without an id by a number.
    displays: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: How often something was sent for this cell, and how many characters.
    messages: int = 0
    size: int = 0
    error: dict[str, Any] | None = None
    reply: dict[str, Any] | None = None
    is_idle: bool = False
    widgets: Widgets = field(default_factory=Widgets)

    def text(self, stream: str = "stdout") -> str:
        """Return what was printed on a stream."""
        return "".join(text for name, text in self.streams if name == stream)

    @property
    def shown(self) -> str:
        """All that the displays show: widgets as HTML, others as text."""
        return "\n".join(
            self.widgets.html(bundle[VIEW]["model_id"]) if VIEW in bundle else bundle.get("text/plain", "")
            for bundle in self.displays.values()
        )

    @property
    def widget(self) -> str:
        """The model id of the widget that it shows; empty where there is none (any more)."""
        found = [bundle[VIEW]["model_id"] for bundle in self.displays.values() if VIEW in bundle]
        return found[0] if found else ""


class Notebook:
    """A kernel with its cells."""

    def __init__(self, place: Any, folder: Path, **env: str) -> None:
        self.place = place
        self.manager = KernelManager(kernel_name="python3")
        spec = self.manager.kernel_spec
        assert spec is not None
        spec.argv = [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=40",
            "--HistoryManager.enabled=False",
        ]  # fmt: skip
        self.env = {**place.env, **env, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        self.folder = folder
        self.cells: dict[str, Cell] = {}
        self.widgets = Widgets()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the kernel, and load the extension."""
        self.manager.start_kernel(env=self.env, cwd=str(self.folder))
        self._remember()
        self._connect()

    def kill(self) -> None:
        """Kill the kernel, as a crash or the machine's memory would."""
        self.processes[-1].kill()
        self.processes[-1].wait(PATIENCE)

    def restart(self) -> None:
        """Restart it as the notebook's button does, and load the extension."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._remember()
        self._connect()

    def close(self) -> None:
        """End it."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        for process in self.processes:
            process.wait(PATIENCE)

    def interrupt(self) -> None:
        """Press the stop button."""
        self.manager.interrupt_kernel()

    def begin(self, code: str, cell_id: str | None = "cell-1") -> Cell:
        """Run a cell, and return at once."""
        content = {
            "code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
            "stop_on_error": False,
        }  # fmt: skip
        message = self.client.session.msg("execute_request", content)
        if cell_id is not None:
            message["metadata"]["cellId"] = cell_id
        self.client.shell_channel.send(message)
        cell = self.cells[message["header"]["msg_id"]] = Cell(message["header"]["msg_id"], widgets=self.widgets)
        return cell

    def run(self, code: str, cell_id: str | None = "cell-1") -> Cell:
        """Run a cell to its end."""
        cell = self.begin(code, cell_id)
        self.until(lambda: cell.is_idle)
        return cell

    def ok(self, code: str, cell_id: str | None = "cell-1") -> Cell:
        """Run a cell that must not fail."""
        cell = self.run(code, cell_id)
        assert cell.error is None, cell.error
        assert "UsageError" not in cell.text("stderr"), cell.text("stderr")
        return cell

    def click(self, model_id: str) -> None:
        """Click a button of a widget."""
        self._tell(model_id, {"method": "custom", "content": {"event": "click"}})

    def enter(self, model_id: str, **state: object) -> None:
        """Set something in a widget, as typing does, or choosing."""
        self._tell(model_id, {"method": "update", "state": state, "buffer_paths": []})

    def load_again(self, model_id: str) -> None:
        """Ask for a widget as a page does that was loaded again."""
        self._tell(model_id, {"method": "request_state"})

    def _tell(self, model_id: str, data: dict[str, Any]) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": model_id, "data": data})
        self.client.shell_channel.send(message)

    def value(self, expression: str) -> str:
        """Return what an expression prints."""
        return self.ok(f"print({expression}, end='')", cell_id="value").text()

    def until(self, holds: Callable[[], object], within: float = PATIENCE) -> None:
        """Listen until something holds."""
        give_up = time.monotonic() + within
        while not holds():
            assert time.monotonic() < give_up, [(c.streams, c.displays, c.error) for c in self.cells.values()][-2:]
            self.listen(0.05)

    def listen(self, seconds: float) -> None:
        """Take in what the kernel says, for a while."""
        give_up = time.monotonic() + seconds
        while (left := give_up - time.monotonic()) > 0:
            try:
                self._hear(self.client.get_iopub_msg(timeout=left))
            except queue.Empty:
                return

    def _remember(self) -> None:
        process = self.manager.provisioner.process  # type: ignore[union-attr]  # the local one
        assert process is not None
        self.processes.append(process)

    def _connect(self) -> None:
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.ok("%load_ext magpie_local", cell_id="load")

    def _hear(self, message: dict[str, Any]) -> None:
        content, kind = message["content"], message["msg_type"]
        self.widgets.hear(kind, content)
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        if kind == "update_display_data":  # it goes where the display is, whoever sends it
            identity = content["transient"]["display_id"]
            cell = next(one for one in self.cells.values() if identity in one.displays)
        if cell is None:
            return
        cell.messages += kind in ("stream", "display_data", "update_display_data")
        match kind:
            case "stream":
                cell.streams.append((content["name"], content["text"]))
                cell.size += len(content["text"])
            case "execute_result":
                cell.displays["result"] = content["data"]
            case "display_data" | "update_display_data":
                identity = content.get("transient", {}).get("display_id", str(len(cell.displays)))
                cell.displays[identity] = content["data"]
                cell.size += sum(map(len, content["data"].values()))
            case "error":
                cell.error = content
            case "status" if content["execution_state"] == "idle":
                cell.is_idle = True


@pytest.fixture
def open_notebook(make_place, tmp_path) -> Iterator[Callable[..., Notebook]]:
    """Open notebooks, on one state directory unless told otherwise."""
    opened: list[Notebook] = []
    place = make_place()

    def open_one(**env: str) -> Notebook:
        notebook = Notebook(place, tmp_path, **env)
        opened.append(notebook)
        notebook.start()
        return notebook

    yield open_one
    for notebook in opened:
        notebook.close()
    for pid in place.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def notebook(open_notebook: Callable[..., Notebook]) -> Notebook:
    """Return a notebook with the extension loaded."""
    return open_notebook()


@pytest.fixture(scope="module")
def _shared(make_place, tmp_path_factory) -> Iterator[Notebook]:
    notebook = Notebook(make_place(), tmp_path_factory.mktemp("notebook"))
    notebook.start()
    yield notebook
    notebook.close()


@pytest.fixture
def shared(_shared: Notebook) -> Notebook:
    """Return a notebook that the tests of a module share: for cells that leave nothing behind."""
    return _shared


@pytest.fixture
def vm_notebook(vm_home, image_folder, tmp_path) -> Iterator[Notebook]:
    """Return a notebook whose jobs have real VMs."""
    settings = config.load(home=vm_home, images=image_folder, pool=0, keeper=False)
    notebook = Notebook(SimpleNamespace(env={**os.environ, **settings.environment()}), tmp_path)
    notebook.start()
    yield notebook
    notebook.close()
