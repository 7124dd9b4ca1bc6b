"""[tool.magpie_local] of a project's pyproject.toml: settings of the client, and the magics' own."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from magpie_local import InvalidInput, config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from magpie_local.config import Settings


class Project:
    """What the project says that the notebook's folder is in.

    Args:
        folder: where to begin to look, upwards.
        traits: names of the magics' own settings.

    Raises:
        InvalidInput: a key is unknown; names the nearest right one, and the file.
    """

    def __init__(self, folder: Path, traits: Collection[str]) -> None:
        self.path, table = _table(folder)
        known = [*config.KEYS, *traits]
        for key in table:
            if key not in known:
                raise self._unknown(key, known)
        self.traits: dict[str, Any] = {key: value for key, value in table.items() if key in traits}
        self._settings = {key: value for key, value in table.items() if key in config.KEYS}

    def settings(self, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of a client: as ever, and what the project says where the environment is silent.

        Raises:
            InvalidInput: a value is not allowed.
        """
        environ = os.environ if environ is None else environ
        mine = {key: value for key, value in self._settings.items() if not environ.get(config.variable(key))}
        loaded = config.load(environ, **mine)
        origins = {**loaded.origins, **dict.fromkeys(mine, f"file {self.path}")}
        return replace(loaded, origins=MappingProxyType(origins))

    def _unknown(self, key: str, known: list[str]) -> InvalidInput:
        near = get_close_matches(key, known, n=1, cutoff=0.5)
        allowed = f"did you mean {near[0]!r}?" if near else f"settings are {', '.join(known)}"
        return InvalidInput("[tool.magpie_local]", key, allowed, hint=f"It stands in {self.path}.")


def _table(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    for place in (folder, *folder.parents):
        path = place / "pyproject.toml"
        if path.is_file():
            try:
                found = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise InvalidInput("pyproject.toml", str(path), f"it can't be read: {error}") from None
            table = found.get("tool", {}).get("magpie_local", {})
            if not isinstance(table, dict):
                raise InvalidInput("[tool.magpie_local]", table, "a table of settings", hint=f"It stands in {path}.")
            return path, table
    return None, {}
