"""The package archives that the host's apt uses for its own distribution.

An image is built from where the host gets its packages: a mirror, a proxy or a snapshot that works for the host
works for the image. Entries of third parties are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Files that hold nothing but the distribution, where nobody has edited them.
_OWN_FILES = frozenset(("sources.list", "debian.sources", "ubuntu.sources"))
_OWN_KEYRING = re.compile(r"(debian|ubuntu)-archive-.*|ubuntu-keyring-.*")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+\S+)*)")
_OPTION_NAMES = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}


@dataclass(frozen=True, slots=True)
class Source:
    """Some suites of some archives."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    #: Further fields of sources.list(5), such as Signed-By.
    options: Mapping[str, str] = field(default_factory=dict)

    def deb822(self) -> str:
        """Return it as a stanza of a .sources file."""
        fields = {
            "Types": "deb",
            "URIs": " ".join(self.uris),
            "Suites": " ".join(self.suites),
            "Components": " ".join(self.components),
            **self.options,
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())

    def without_passwords(self) -> Source:
        """Return it as it may be kept in an image."""
        return replace(self, uris=tuple(_without_password(uri) for uri in self.uris))


def distribution_sources(codename: str, apt: Path = Path("/etc/apt")) -> list[Source]:
    """Return the host's sources that serve the distribution's release `codename`; empty where there are none."""
    suites = {codename, f"{codename}-updates", f"{codename}-security"}
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found = []
    for path in files:
        for source in _read(path):
            wanted = tuple(suite for suite in source.suites if suite in suites)
            if wanted and "main" in source.components and (path.name in _OWN_FILES or _is_own(source)):
                found.append(replace(source, suites=wanted))
    return found


def _is_own(source: Source) -> bool:
    signed_by = source.options.get("Signed-By", "")
    return bool(_OWN_KEYRING.fullmatch(signed_by.rpartition("/")[2]))


def _read(path: Path) -> Iterator[Source]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return iter(())
    if path.suffix == ".sources":
        return _deb822(text)
    return _one_line(text) if path.suffix == ".list" else iter(())


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(part.partition("=")[::2] for part in (match["options"] or "").split())
            yield Source(
                (match["uri"],), (match["suite"],), tuple(match["components"].split()),
                {_OPTION_NAMES.get(name, name.title()): value.replace(",", " ") for name, value in options.items()},
            )  # fmt: skip


def _deb822(text: str) -> Iterator[Source]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        # A line that begins with a space continues the field before it (an inline key in Signed-By).
        pairs = (part.partition(":") for part in re.split(r"\n(?=\S)", stanza.strip("\n")))
        fields = {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
        if "deb" in fields.pop("types", "").split() and fields.pop("enabled", "yes").lower() not in ("no", "false"):
            uris, suites, components = (tuple(fields.pop(key, "").split()) for key in ("uris", "suites", "components"))
            yield Source(uris, suites, components, {name.title(): value for name, value in fields.items()})


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
