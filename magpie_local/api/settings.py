"""Which settings a client works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magpie_local import config
from magpie_local.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.config import Settings


def client_settings(settings: Settings | None, state_dir: str | Path | None) -> Settings:
    """Return the settings for a client: given whole, or loaded with the state directory as an argument."""
    if settings is None:
        return config.load(home=state_dir)
    if state_dir is not None:
        raise InvalidInput("state_dir", state_dir, "give either settings or state_dir")
    return settings
