"""A JupyterLab of the tests' own: on loopback, in folders of its own, and ended with all that it has started."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for the server to answer, and to end in peace.
_START, _END = 60.0, 15.0
#: The name of the kernel: the Python that runs the tests.
KERNEL = "test"
#: What a user's environment may hold and these processes must not see.
_FOREIGN = ("MAGPIE_", "JUPYTER", "IPYTHON", "JPY_")
#: What JupyterLab fetches from the internet by itself: news, versions, a list of extensions.
_OFFLINE = (
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None",
    "--LabApp.extension_manager=readonly",
)  # fmt: skip


class LabServer:
    """A server with its notebooks, kernels and state directory, all in one temporary folder.

    Args:
        env: settings of the kernels, beside the fake hypervisor; None takes one away.
    """

    def __init__(self, **env: str | None) -> None:
        # A short path: sockets lie below it.
        self.folder = Path(tempfile.mkdtemp(prefix="mgb", dir=tempfile.gettempdir()))
        self.home = self.folder / "state"
        self.notebooks = self.folder / "notebooks"
        self.log = self.folder / "server.log"
        self.token = secrets.token_hex(16)
        self.url = ""
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of the server and its kernels."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN) and not name.lower().endswith("_proxy")
        }
        folders = {
            f"JUPYTER{name}_DIR": str(self.folder / f"jupyter{name}".lower())
            for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")
        }
        own: dict[str, str | None] = {
            **folders,
            "IPYTHONDIR": str(self.folder / "ipython"),
            "JUPYTER_TOKEN": self.token,
            "PYTHONPATH": str(ROOT),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "MAGPIE_HOME": str(self.home),
            "MAGPIE_HYPERVISOR": "fake",
            "MAGPIE_CPUS": "8",
            "MAGPIE_TEMPLATES": "0",
            "MAGPIE_POOL": "0",
            **self._env,
        }
        return {**inherited, **{name: value for name, value in own.items() if value is not None}}

    def start(self) -> None:
        """Start it; returns once it answers.

        Raises:
            RuntimeError: it did not come up; the message holds its log.
        """
        self._prepare()
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *_OFFLINE, "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={_free_port()}", f"--ServerApp.root_dir={self.notebooks}",
            "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.env, cwd=self.notebooks, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.url = self._answer()

    def stop(self) -> None:
        """End it, its kernels, and whatever else was started below it; then delete its folder."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END)
            self._process.kill()
            self._process.wait(_END)
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """Return the processes that have our state directory in their environment, and QEMUs whose files lie in it."""
        mark, folder = f"MAGPIE_HOME={self.home}\0".encode(), str(self.home).encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or it belongs to somebody else
                command = (process / "cmdline").read_bytes()
                is_vm = b"qemu-system" in command.partition(b"\0")[0] and folder in command
                if is_vm or mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    def _prepare(self) -> None:
        """Write what the server reads before it starts: a kernel, and that nothing of the internet is wanted."""
        env = self.env
        self.notebooks.mkdir()
        kernel = Path(env["JUPYTER_DATA_DIR"]) / "kernels" / KERNEL
        _write(
            kernel / "kernel.json",
            {
                "argv": [
                    sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
                    "--HistoryManager.enabled=False",
                ],
                "display_name": "Python 3",
                "language": "python",
                "metadata": {"debugger": False},
            },
        )  # fmt: skip
        announcements = {"@jupyterlab/apputils-extension:announcements": True}
        _write(
            Path(env["JUPYTER_CONFIG_DIR"]) / "labconfig" / "page_config.json",
            {"disabledExtensions": announcements},
        )
        settings = Path(env["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension"
        _write(
            settings / "notification.jupyterlab-settings",
            {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
        )

    def _answer(self) -> str:
        """Return the address, which the server writes down once it listens."""
        assert self._process is not None
        told = Path(self.env["JUPYTER_RUNTIME_DIR"]) / f"jpserver-{self._process.pid}.json"
        give_up = time.monotonic() + _START
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(OSError, json.JSONDecodeError):  # it is not there, or not all of it
                return str(json.loads(told.read_text())["url"])
            time.sleep(0.05)
        log = self.log.read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"JupyterLab did not start within {_START:.0f} s:\n{log}")


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _free_port() -> int:
    """Return a port that is free now; should it be taken meanwhile, the server takes another and writes that down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
