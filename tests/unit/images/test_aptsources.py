from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from magpie_local.images.aptsources import Source, distribution_sources

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def write(apt: Path, name: str, text: str) -> None:
    (apt / "sources.list.d" / name).write_text(text)


def test_one_line_entries_keep_their_options(apt: Path) -> None:
    line = "deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main contrib # near\n"
    (apt / "sources.list").write_text(line)

    (source,) = distribution_sources("bookworm", apt)

    assert source.uris == ("http://mirror/debian",)
    assert source.components == ("main", "contrib")
    assert source.options == {"Architectures": "amd64", "Signed-By": "/k.gpg"}


def test_stanzas_lose_suites_of_other_releases(apt: Path) -> None:
    stanza = (
        "Types: deb deb-src\nURIs: http://mirror/debian\nSuites: bookworm trixie bookworm-updates\nComponents: main\n"
    )
    write(apt, "debian.sources", f"# a comment\n{stanza}")

    (source,) = distribution_sources("bookworm", apt)

    assert source.suites == ("bookworm", "bookworm-updates")


def test_an_inline_key_is_kept_whole(apt: Path) -> None:
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----"
    stanza = f"Types: deb\nURIs: http://mirror/debian\nSuites: bookworm\nComponents: main\nSigned-By:{key}\n"
    write(apt, "debian.sources", stanza)

    (source,) = distribution_sources("bookworm", apt)

    assert "mQINBF" in source.deb822()
    assert "END PGP" in source.deb822()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vpn.list", "deb [signed-by=/usr/share/keyrings/vpn.gpg] https://vpn.example/debian bookworm main\n"),
        ("docker.list", "deb https://docker.example/linux/debian bookworm stable\n"),
        ("cloud.list", "deb https://cloud.example/apt cloud-sdk-bookworm main\n"),
        ("debian.list", "deb-src http://mirror/debian bookworm main\n"),
        ("debian.list", "# deb http://mirror/debian bookworm main\n"),
        ("debian.list.save", "deb http://mirror/debian bookworm main\n"),
        ("debian.sources", "Types: deb\nURIs: http://m\nSuites: bookworm\nComponents: main\nEnabled: no\n"),
    ],
)
def test_what_does_not_serve_the_distribution_is_left_out(apt: Path, name: str, text: str) -> None:
    write(apt, name, text)

    assert distribution_sources("bookworm", apt) == []


def test_an_entry_elsewhere_counts_by_the_distributions_own_keyring(apt: Path) -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    write(apt, "snapshot.list", f"deb [signed-by={keyring}] https://snapshot.example bookworm main\n")

    assert len(distribution_sources("bookworm", apt)) == 1


def test_passwords_stay_out_of_what_is_kept() -> None:
    source = Source(("https://user:secret@mirror:8080/debian",), ("bookworm",), ("main",))

    assert source.without_passwords().uris == ("https://mirror:8080/debian",)
