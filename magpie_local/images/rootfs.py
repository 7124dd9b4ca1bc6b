"""The root file system and the kernel: one run of mmdebstrap, as root or in a user namespace.

All that needs the root's own owners and tools happens in hooks of that run; what comes out is a folder of plain files
that belong to the caller: root.erofs, vmlinuz, modules.tar, busybox, packages, release.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from magpie_local.errors import ImageBuildFailed
from magpie_local.images import kit, tools
from magpie_local.images.aptsources import Source, distribution_sources

if TYPE_CHECKING:
    from pathlib import Path

    from magpie_local.images.host import Host
    from magpie_local.images.recipe import Recipe

STEP = "packages, kernel and root file system"

_HINT = (
    "Packages come from where this host's apt gets them: see that `apt-get update` works, and that /var/tmp has room."
)

#: Settings of the host's apt that decide whether its archives can be reached and trusted.
_APT_SETTINGS = (
    "Acquire::http", "Acquire::https", "Acquire::ftp", "Acquire::Retries", "Acquire::Check-", "Acquire::Force",
    "Acquire::Allow", "Acquire::By-Hash", "Acquire::Max-ValidTime", "Acquire::Proxy",
)  # fmt: skip

# Hooks run in a shell of mmdebstrap's, with the root in $1; nothing but a package name of the recipe is put into them.
# The host's apt fetches the kernel: it knows the proxy, the keys and the certificates, and resolves meta packages.
_FETCH_KERNEL = (
    'mkdir -p "$1/.magpie/debs/partial" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --quiet --download-only '
    '--no-install-recommends -o Dir::Cache::archives="$1/.magpie/debs" install '
)
# A bind mount shows the root without the file systems mounted in it.
_MAKE_EROFS = (
    'mkdir "$1/.magpie/view" && mount -o bind "$1" "$1/.magpie/view" && '
    'mkfs.erofs --quiet --preserve-mtime -x-1 -zlz4hc --exclude-path=.magpie "$1/.magpie/out/root.erofs" '
    '"$1/.magpie/view"; status=$?; umount "$1/.magpie/view"; exit $status'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RootBuild:
    """One build of a root.

    `out` gets the files; `work` holds the unpacked root meanwhile. The lock's descriptor is held by the tools too.
    """

    recipe: Recipe
    host: Host
    out: Path
    work: Path
    lock: int

    async def run(self) -> None:
        """Build.

        Raises:
            ImageBuildFailed: with the last lines of what mmdebstrap said.
        """
        kernel = self._kernel()
        sources = distribution_sources(self.host.codename)
        if not sources:
            raise ImageBuildFailed(
                f"this machine's apt names no archive of {self.host.distribution} {self.host.codename}",
                hint="Add one to /etc/apt/sources.list; images are built from the same packages as the host.",
            )
        self._write("archives.sources", _stanzas(sources).encode())
        self._write("apt.conf", await _apt_settings(self.out))
        clean = _stanzas([source.without_passwords() for source in sources])
        files = kit.overlay_files(self.recipe) | kit.agent_files() | kit.build_files(self.recipe, clean)
        self._write("kit.tar", kit.pack(files))
        env = os.environ | {"TMPDIR": str(self.work), "PATH": tools.SEARCH_PATH}
        await tools.run(
            STEP, "mmdebstrap", *self._options(kernel), self.host.codename, "-", "archives.sources",
            cwd=self.out, env=env, keep_open=(self.lock,), hint=_HINT,
        )  # fmt: skip

    def _options(self, kernel: str) -> list[str]:
        mode = "root" if os.geteuid() == 0 else "unshare"
        return [
            "--quiet", "--variant=minbase", "--format=null", "--skip=cleanup", f"--mode={mode}",
            f"--include={','.join(self.recipe.packages)}",
            "--setup-hook=upload apt.conf /etc/apt/apt.conf.d/98magpie-build",
            "--customize-hook=tar-in kit.tar /",
            f"--customize-hook={_FETCH_KERNEL}{kernel}",
            '--customize-hook=chroot "$1" /.magpie/finish',
            f"--customize-hook={_MAKE_EROFS}",
            "--customize-hook=sync-out /.magpie/out .",
        ]  # fmt: skip

    def _kernel(self) -> str:
        known = self.recipe.distributions.get(self.host.distribution)
        if known is None or self.host.architecture not in known.kernel:
            raise ImageBuildFailed(
                f"the recipe {self.recipe.name!r} knows no kernel for {self.host.distribution} on "
                f"{self.host.architecture}",
                hint=f"Name its package in {self.recipe.folder / 'recipe.toml'}, under [distribution].",
            )
        return known.kernel[self.host.architecture]

    def _write(self, name: str, data: bytes) -> None:
        """Write a file that only the builder can read: addresses of archives and proxies may hold passwords."""
        with open(os.open(self.out / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)


def _stanzas(sources: list[Source]) -> str:
    return "\n".join(source.deb822() for source in sources)


async def _apt_settings(folder: Path) -> bytes:
    dump = await tools.output(STEP, "apt-config", "dump", cwd=folder)
    lines = [line for line in dump.decode(errors="replace").splitlines() if line.startswith(_APT_SETTINGS)]
    return "".join(f"{line}\n" for line in lines if not line.endswith(' "";')).encode()
