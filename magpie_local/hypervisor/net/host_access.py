"""What a guest needs of this machine's settings to download packages where the machine itself needs it: proxies,
package indexes and certificate authorities, as on company laptops. Opt-in, because proxies' addresses may hold
passwords.

A guest can't reach this machine's loopback, so a proxy that listens there (cntlm, px, a developer's cache) is of no
use to it and is left out, with the reason.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the guest keeps the authorities that it trusts; the host's are added to it.
GUEST_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

_ADDRESSES = (
    "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY",
    "PIP_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX",
    "NPM_CONFIG_REGISTRY", "npm_config_registry", "GOPROXY",
)  # fmt: skip
_PLAIN = ("no_proxy", "NO_PROXY", "PIP_TRUSTED_HOST")
#: Variables that name a file of certificates on the host. In the guest all of them name GUEST_BUNDLE: pip, requests
#: and node bring their own authorities along and don't look at the system's.
BUNDLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
)  # fmt: skip
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAccess:
    """What to give to a guest."""

    #: Variables for its scripts; may hold passwords.
    env: Mapping[str, str] = field(repr=False)
    #: Certificates to append to GUEST_BUNDLE, in PEM; empty where there are none.
    certificates: bytes = field(repr=False)
    #: Passwords that addresses in `env` hold.
    passwords: tuple[str, ...] = field(repr=False)
    #: Proxies and indexes, by host and port: where they are in a private range, the guest must be let through to them.
    services: tuple[tuple[str, int], ...]
    #: Variables that were left out, each with the reason.
    left_out: Mapping[str, str]


def certificate_files(environ: Mapping[str, str]) -> list[str]:
    """Return the files that `host_access` wants to see."""
    return list(dict.fromkeys(environ[name] for name in BUNDLES if environ.get(name)))


def this_machine() -> HostAccess:
    """Return what this process's environment means for a guest."""
    files = {}
    for path in certificate_files(os.environ):
        with contextlib.suppress(OSError):
            files[path] = Path(path).read_bytes()
    return host_access(os.environ, files)


def host_access(environ: Mapping[str, str], files: Mapping[str, bytes]) -> HostAccess:
    """Return what this machine's settings mean for a guest.

    Args:
        environ: the host's environment.
        files: the contents of `certificate_files`; those that can't be read are missing.
    """
    left_out = {name: reason for name in _ADDRESSES if (reason := _unreachable(environ.get(name, "")))}
    kept = (*_ADDRESSES, *_PLAIN)
    env = {name: environ[name] for name in kept if environ.get(name) and name not in left_out}
    certificates = _certificates(files)
    if certificates:
        env |= dict.fromkeys((*BUNDLES[:2], "PIP_CERT", "NODE_EXTRA_CA_CERTS"), GUEST_BUNDLE)
    for name in BUNDLES:
        if environ.get(name) and environ[name] not in files:
            left_out[name] = f"{environ[name]} can't be read"
    urls = [url for name in _ADDRESSES if name in env for url in _urls(env[name])]
    return HostAccess(
        env=env, certificates=certificates, left_out=left_out,
        passwords=tuple(dict.fromkeys(unquote(url.password) for url in urls if url.password)),
        services=tuple(dict.fromkeys((url.hostname, url.port or _port(url.scheme)) for url in urls if url.hostname)),
    )  # fmt: skip


def _unreachable(value: str) -> str | None:
    """Return why a guest has no use for an address, or for a list of them; None where it has."""
    if any(_is_loopback(url.hostname or "") for url in _urls(value)):
        return "it is on this machine's loopback, which a guest can't reach"
    return None


def _urls(value: str) -> list[SplitResult]:
    found = []
    for each in re.split(r"[\s,|]+", value):
        # Its port is looked at here: a bad one raises only then.
        with contextlib.suppress(ValueError):
            url = urlsplit(each if "//" in each else f"//{each}")
            found += [url] if url.hostname and (url.port is None or url.port > 0) else []
    return found


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _is_loopback(host: str) -> bool:
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _certificates(files: Mapping[str, bytes]) -> bytes:
    """Return the certificates of all files, each once; whatever else is in there, such as keys, stays here."""
    found = dict.fromkeys(match for text in files.values() for match in _CERTIFICATE.findall(text))
    return b"".join(certificate + b"\n" for certificate in found)
