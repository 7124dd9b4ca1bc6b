"""Servers that are not what they should be: other keys, and SFTP that lies."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from magpie_local.errors import HostKeyMismatch, SshError, SshUnavailable, TransferError, TransferRefused
from magpie_local.guest.ssh.access import SshFiles
from magpie_local.guest.ssh.link import SshLink
from magpie_local.guest.ssh.opener import SshShells
from magpie_local.ports.shell import CopyLimits, SshTarget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from magpie_local.guest.ssh.shell import SshShell

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def entry(name: bytes, mode: int | None = FILE, size: int = 5) -> asyncssh.SFTPName:
    return asyncssh.SFTPName(name, attrs=asyncssh.SFTPAttrs(permissions=mode, size=size))


class Liar(asyncssh.SFTPServer):
    """Serves no files at all: what there is, and what is in it, each test says."""

    #: What each folder is said to contain, by its path; every path not named here is a file.
    folders: dict[bytes, Iterator[asyncssh.SFTPName] | list[asyncssh.SFTPName]]
    content = b"hello"
    size = 5

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for one in self.folders[path]:
            yield one

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        folder = path in self.folders
        return asyncssh.SFTPAttrs(permissions=FOLDER if folder else FILE, size=0 if folder else self.size)

    lstat = stat

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        return object()

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]

    def close(self, file_obj: object) -> None:
        pass


class Server(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


@contextlib.asynccontextmanager
async def serving(folder: Path, sftp: Any = True, key: asyncssh.SSHKey | None = None) -> AsyncIterator[SshTarget]:
    """Run a server in this process; give what reaches it."""
    key = key or asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[key], sftp_factory=sftp)
    public = " ".join(key.export_public_key().decode().split()[:2])
    files = SshFiles(folder)
    files.prepare()
    try:
        yield files.write("job", port=server.get_port(), host_key=public).target
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def lied_to(folder: Path, **lies: object) -> AsyncIterator[SshShell]:
    kind = type("Liar", (Liar,), lies)
    async with serving(folder / "ssh", kind) as target:
        shell = await SshShells().connect(target)
        try:
            yield shell
        finally:
            await shell.close()


def left(folder: Path) -> set[str]:
    """Return all that is below a folder, but for our keys."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "ssh" not in path.relative_to(folder).parts}


async def test_another_host_key_is_refused_at_once(tmp_path):
    async with serving(tmp_path / "ssh") as target:
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        with pytest.raises(HostKeyMismatch, match="another key"):
            await SshShells().connect(replace(target, host_key=other))


async def test_a_key_of_another_kind_is_refused_at_once(tmp_path):
    async with serving(tmp_path / "ssh", key=asyncssh.generate_private_key("ecdsa-sha2-nistp256")) as target:
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        with pytest.raises(HostKeyMismatch):
            await SshShells().connect(replace(target, host_key=other))


async def test_a_server_that_is_replaced_by_another_is_refused(tmp_path):
    async with serving(tmp_path / "ssh") as target:
        shell = await SshShells().connect(target)
    imposter = await asyncssh.create_server(
        Server, "127.0.0.1", target.port, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")]
    )
    try:
        (await shell._link.connection()).abort()
        with pytest.raises(HostKeyMismatch):
            await shell.run("true")
    finally:
        imposter.close()
        await shell.close()


async def test_our_key_is_refused_with_its_name_and_no_retries(sshd, tmp_path):
    files = SshFiles(tmp_path / "ssh")
    files.prepare()  # nobody lets it in
    target = files.write("job", port=sshd.port, host_key=sshd.host_key, username="nobody").target

    with pytest.raises(SshUnavailable, match="refuses 'nobody'"):
        await SshShells().connect(target)


async def test_a_port_on_which_nobody_listens_is_given_up_in_time(access, unused_tcp_port):
    with pytest.raises(SshUnavailable, match=r"did not answer within 0\.3 s"):
        await SshLink(replace(access.target, port=unused_tcp_port), patience=0.3).connection()


async def test_a_server_that_only_accepts_is_given_up_in_time(access):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts in its name
        port = silent.getsockname()[1]
        with pytest.raises(SshUnavailable, match="it is silent"):
            await SshLink(replace(access.target, port=port), patience=0.3).connection()


async def test_a_closed_link_connects_no_more(access):
    link = SshLink(access.target)
    await link.close()

    with pytest.raises(SshUnavailable, match="closed here"):
        await link.connection()


NAMES = [
    b"../out", b"..//out", b"/etc/out", b"/", b"a/b", b"a/../../out", b"", b"a\0b", b"\0", b"./out", b"../", b"//out",
]  # fmt: skip


@pytest.mark.parametrize("mode", [FILE, FOLDER, None], ids=["file", "folder", "untold"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_leads_elsewhere_ends_the_copy(tmp_path, name, mode):
    (tmp_path / "in").mkdir()
    folders = {b"/top": [entry(b"first"), entry(name, mode)], b"/top/" + name: []}

    async with lied_to(tmp_path, folders=folders) as shell:
        with pytest.raises(TransferRefused, match="no file can have"):
            await shell.files.download("/top", tmp_path / "in" / "copy")
        with pytest.raises(TransferRefused, match="no file can have"):
            await shell.files.list("/top")

    assert left(tmp_path) == {"in"}
    assert not os.path.exists("/etc/out")


@pytest.mark.parametrize("second", [FILE, FOLDER, stat.S_IFLNK | 0o777])
@pytest.mark.parametrize("first", [FILE, FOLDER])
async def test_a_name_that_comes_twice_ends_the_copy_or_is_left_out(tmp_path, first, second):
    folders = {b"/top": [entry(b"a", first), entry(b"a", second)], b"/top/a": []}

    async with lied_to(tmp_path, folders=folders) as shell:
        if stat.S_ISLNK(second):
            assert (await shell.files.download("/top", tmp_path / "copy")).notes == ("a: a symbolic link",)
        else:
            with pytest.raises(TransferRefused, match="twice"):
                await shell.files.download("/top", tmp_path / "copy")
            assert left(tmp_path) == set()


async def test_a_link_that_becomes_a_folder_is_never_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    link = entry(b"a", stat.S_IFLNK | 0o777)
    folders = {b"/top": [link, entry(b"a", FOLDER)], b"/top/a": [entry(b"file")]}

    async with lied_to(tmp_path, folders=folders) as shell:
        await shell.files.download("/top", tmp_path / "copy")

    assert left(tmp_path) == {"outside", "copy", "copy/a", "copy/a/file"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", [stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
async def test_what_is_neither_file_nor_folder_is_left_out(tmp_path, kind):
    async with lied_to(tmp_path, folders={b"/top": [entry(b"dev", kind | 0o666), entry(b"file")]}) as shell:
        report = await shell.files.download("/top", tmp_path / "copy")

    assert report.notes == ("dev: neither a file nor a folder",)
    assert left(tmp_path) == {"copy", "copy/file"}


async def test_no_special_permission_is_kept(tmp_path):
    folders = {b"/top": [entry(b"file", stat.S_IFREG | 0o6777), entry(b"folder", stat.S_IFDIR | 0o7777)],
               b"/top/folder": []}  # fmt: skip

    async with lied_to(tmp_path, folders=folders) as shell:
        await shell.files.download("/top", tmp_path / "copy")

    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").iterdir()} == {0o777}


async def test_a_file_without_end_is_cut_off(tmp_path):
    class Endless:
        def __getitem__(self, piece: slice) -> bytes:
            return bytes(piece.stop - piece.start)

    async with lied_to(tmp_path, folders={b"/top": [entry(b"file")]}, content=Endless()) as shell:
        with pytest.raises(TransferRefused, match="bytes that may be copied"):
            await shell.files.download("/top", tmp_path / "copy", limits=CopyLimits(size=1_000_000))

    assert left(tmp_path) == set()


async def test_a_file_that_sends_more_than_it_was_asked_for_ends_the_copy(tmp_path):
    class More:
        def __getitem__(self, piece: slice) -> bytes:
            return bytes(piece.stop - piece.start + 1)

    async with lied_to(tmp_path, folders={b"/top": [entry(b"file")]}, content=More()) as shell:
        with pytest.raises(TransferRefused, match="more of '/top/file' than"):
            await shell.files.download("/top", tmp_path / "copy")

    assert left(tmp_path) == set()


async def test_a_file_that_is_shorter_than_told_is_as_long_as_it_is(tmp_path):
    async with lied_to(tmp_path, folders={b"/top": [entry(b"file", size=10_000_000)]}) as shell:
        report = await shell.files.download("/top", tmp_path / "copy")

    assert (tmp_path / "copy" / "file").read_bytes() == b"hello"
    assert report.size == 5


@pytest.mark.parametrize("mode", [FILE, FOLDER, stat.S_IFLNK | 0o777])
async def test_a_folder_without_end_is_cut_off(tmp_path, mode):
    class Endless(dict[bytes, Any]):
        def __getitem__(self, path: bytes) -> Iterator[asyncssh.SFTPName]:
            return iter([]) if path != b"/top" else (entry(b"%d" % n, mode, 0) for n in range(10**9))

        def __contains__(self, path: object) -> bool:
            return path == b"/top"

    async with lied_to(tmp_path, folders=Endless()) as shell:
        with pytest.raises(TransferRefused, match="more than the 300 files"):
            await shell.files.download("/top", tmp_path / "copy", limits=CopyLimits(entries=300))

    assert left(tmp_path) == set()


async def test_a_folder_of_nothing_but_itself_is_cut_off(tmp_path):
    async with lied_to(tmp_path, folders={b"/top": [entry(b".", FOLDER) for _ in range(1000)]}) as shell:
        with pytest.raises(TransferRefused, match="no end"):
            await shell.files.download("/top", tmp_path / "copy")


async def test_folders_within_folders_without_end_are_cut_off(tmp_path):
    class Deep(dict[bytes, Any]):
        def __getitem__(self, path: bytes) -> list[asyncssh.SFTPName]:
            return [entry(b"d", FOLDER)]

        def __contains__(self, path: object) -> bool:
            return True

    async with lied_to(tmp_path, folders=Deep()) as shell:
        with pytest.raises(TransferRefused, match="nested"):
            await shell.files.download("/top", tmp_path / "copy")

    assert left(tmp_path) == set()


async def test_a_name_too_long_for_this_machine_is_told(tmp_path):
    async with lied_to(tmp_path, folders={b"/top": [entry(b"x" * 300)]}) as shell:
        with pytest.raises(TransferError, match="too long"):
            await shell.files.download("/top", tmp_path / "copy")

    assert left(tmp_path) == set()


async def test_a_server_without_sftp_is_told(tmp_path):
    async with serving(tmp_path / "ssh", None) as target:
        shell = await SshShells().connect(target)
        with pytest.raises(SshError, match="offers no SFTP"):
            await shell.files.list(".")
        await shell.close()


async def test_names_that_differ_in_case_or_form_only_are_both_kept(tmp_path):
    names = [b"a", b"A", "\u00e9".encode(), "e\u0301".encode(), b"new\nline", b"-rf", b"~", b"..."]

    async with lied_to(tmp_path, folders={b"/top": [entry(name) for name in names]}) as shell:
        await shell.files.download("/top", tmp_path / "copy")

    assert {os.fsencode(path.name) for path in (tmp_path / "copy").iterdir()} == set(names)
