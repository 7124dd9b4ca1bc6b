"""Waiting for whatever comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


async def wait_for_news(news: asyncio.Event, seconds: float, *tasks: asyncio.Future[Any]) -> None:
    """Return when `news` was set, which is cleared, when one of `tasks` is done, or after `seconds`."""
    waiting = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait({waiting, *tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    news.clear()
