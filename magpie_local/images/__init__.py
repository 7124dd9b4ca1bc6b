"""Guest images: recipes, the builder, and the catalogue of what is built."""

from __future__ import annotations
