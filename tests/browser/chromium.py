"""Debian's Chromium, driven by playwright: it reaches loopback only, and keeps no file of its own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.sync_api import Error, sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

#: Where it is called otherwise, MAGPIE_CHROMIUM names it.
PROGRAM = Path(os.environ.get("MAGPIE_CHROMIUM", "/usr/bin/chromium"))
#: Milliseconds for anything that a page is waited for.
PATIENCE = 30_000
_ARGUMENTS = [
    "--no-sandbox",  # root has none, and nobody has it without its package; the pages are our own
    "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


class Chromium:
    """A browser with one page.

    Args:
        env: its environment; what it writes goes below HOME.
        size: of the page, in pixels.
        scale: pixels of a screenshot for each of them.
    """

    def __init__(self, env: dict[str, str], size: tuple[int, int] = (1280, 1000), scale: float = 1.0) -> None:
        if not PROGRAM.exists():
            raise FileNotFoundError(
                f"no browser at {PROGRAM}: `./dev test` installs one, MAGPIE_CHROMIUM names another"
            )
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=PROGRAM, headless=True, args=_ARGUMENTS, env=dict(env), timeout=PATIENCE
            )
        except BaseException:
            self._playwright.stop()
            raise
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale, color_scheme="light"
        )
        context.set_default_timeout(PATIENCE)
        self.page: Page = context.new_page()
        #: Addresses asked for that are not on loopback, and dialogs that a page has opened.
        self.strangers: list[str] = []
        self.dialogs: list[str] = []
        context.on("request", lambda request: self._see(request.url))
        self.page.on("websocket", lambda opened: self._see(opened.url))
        self.page.on("dialog", self._answer)

    def close(self) -> None:
        """End it."""
        with suppress(Error):  # one that has crashed can't say goodbye
            self._browser.close()
        self._playwright.stop()

    def _see(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
            self.strangers.append(url)

    def _answer(self, dialog: Dialog) -> None:
        if dialog.type != "beforeunload":  # JupyterLab's own, of a notebook with changes
            self.dialogs.append(f"{dialog.type}: {dialog.message}")
        dialog.accept()
