"""The `magpie` command. It knows the public API only, and imports it inside commands, so that help stays fast."""

from __future__ import annotations
