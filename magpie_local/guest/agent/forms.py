"""The forms in which a script may print a secret: as it is, in base64, in hex, in a URL, in JSON.

Made here with few imports: `json` and `urllib` would cost an emulated guest more than all of the masking.
"""

from __future__ import annotations

from binascii import b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Fewest characters of a value that is masked: too much that is no secret would be (domain.secret.MIN_MASKED).
MIN_MASKED = 4

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SHORT_ESCAPES = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}


def forms(secrets: Iterable[str]) -> list[bytes]:
    """Return all that is to be masked, each once; a value that is too short has no form."""
    return sorted({form for value in _values(secrets) for form in (*_as_written(value), *_foldable(value))})


def foldable(secrets: Iterable[str]) -> list[bytes]:
    """Return those of the forms that programs break into lines of a fixed width (`base64`: 76, `xxd -p`: 60)."""
    return sorted({form for value in _values(secrets) for form in _foldable(value)})


def _values(secrets: Iterable[str]) -> set[str]:
    return {value for secret in secrets for value in (secret, secret.strip()) if len(value) >= MIN_MASKED}


def _foldable(value: str) -> Iterator[bytes]:
    data = value.encode("utf-8", "surrogateescape")
    yield from _base64(data)
    yield data.hex().encode()
    yield data.hex().upper().encode()


def _as_written(value: str) -> Iterator[bytes]:
    data = value.encode("utf-8", "surrogateescape")
    yield data
    for safe in (b"", b"/"):
        for blank in ("%20", "+"):
            for digits in ("02X", "02x"):
                yield _in_url(data, safe, blank, digits)
    for digits in ("04x", "04X"):
        for only_ascii in (True, False):
            for slash in ("/", "\\/"):
                yield _in_json(value, digits, slash, only_ascii=only_ascii)


def _base64(data: bytes) -> Iterator[bytes]:
    """Yield what is the same in the base64 of every text that holds `data`, for each of its places in a group of three.

    The characters at both ends also depend on what stands there, and are left out.
    """
    for before in range(3):
        text = b2a_base64(bytes(before) + data, newline=False)
        first, end = -(-8 * before // 6), 8 * (before + len(data)) // 6
        stable = text[first:end]
        yield stable
        yield stable.translate(bytes.maketrans(b"+/", b"-_"))


def _in_url(data: bytes, safe: bytes, blank: str, digits: str) -> bytes:
    plain = _UNRESERVED | frozenset(safe)
    parts = (
        chr(one) if one in plain else blank if one == 0x20 else "%" + format(one, digits)
        for one in data
    )  # fmt: skip
    return "".join(parts).encode()


def _in_json(value: str, digits: str, slash: str, *, only_ascii: bool) -> bytes:
    parts = (_json_character(ord(one), digits, slash, only_ascii=only_ascii) for one in value)
    return "".join(parts).encode("utf-8", "surrogateescape")


def _json_character(code: int, digits: str, slash: str, *, only_ascii: bool) -> str:
    if code in _SHORT_ESCAPES:
        return "\\" + _SHORT_ESCAPES[code]
    if code == ord("/"):
        return slash
    if 0x20 <= code < 0x7F or (code >= 0x7F and not only_ascii):
        return chr(code)
    if code < 0x10000:
        return "\\u" + format(code, digits)
    high, low = divmod(code - 0x10000, 0x400)
    return "\\u" + format(0xD800 + high, digits) + "\\u" + format(0xDC00 + low, digits)
