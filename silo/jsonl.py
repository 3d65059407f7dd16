"""JSON objects, one a line, plain or compressed, and whole or an error.

Knows nothing of what the objects mean. A file that was cut off is an error and never a shorter file.
"""

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from silo.documents import MAX_TEXT_BYTES
from silo.errors import UnreadableCorpus
from silo.files import new_file

JSONL_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
MAX_LINE_BYTES = 4 * MAX_TEXT_BYTES
"""JSON may need several bytes for one of text."""


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and JSON objects of a JSONL file; blank lines are passed over.

    Raises:
        UnreadableCorpus: the file is missing or torn, or a line is not UTF-8 or not a JSON object.
    """
    number = 0
    try:
        with path.open("rb") as file, _decompressed(file, path) as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise UnreadableCorpus(f"{path}, line {number}: longer than {MAX_LINE_BYTES:,} bytes. Split it.")
                if line.strip():
                    yield number, _parse_line(line, f"{path}, line {number}")
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UnreadableCorpus(
            f"{path}, after line {number}: {error or type(error).__name__}. "
            "The file is missing, torn or not what its suffix says; fetch or write it again."
        ) from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write ``rows``, compressed as the suffix of ``path`` says; return how many.

    The file appears whole or not at all, and the same rows give the same bytes.

    Raises:
        UnreadableCorpus: the suffix is none of ``JSONL_SUFFIXES``.
    """
    if not path.name.endswith(JSONL_SUFFIXES):
        raise UnreadableCorpus(f"documents are written as {', '.join(JSONL_SUFFIXES)}; got {path.name!r}")
    n_rows = 0
    with new_file(path) as file, _compressed(file, path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            n_rows += 1
    return n_rows


def decode(raw: bytes, place: str) -> str:
    """``raw`` as text; where it is not UTF-8 raises UnreadableCorpus with ``place`` and the offset."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableCorpus(
            f"{place}: not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}, {error.reason}. "
            "Convert it first."
        ) from None


def _parse_line(line: bytes, place: str) -> dict[str, Any]:
    text = decode(line, place).removeprefix("\ufeff")
    try:
        row = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UnreadableCorpus(f"{place}: not a JSON object: {error}. It begins with {text[:60]!r}") from None
    if not isinstance(row, dict):
        raise UnreadableCorpus(f"{place}: expected a JSON object; got {type(row).__name__}: {text[:60]!r}")
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; two licenses under one key are a fault to mend, not a choice to make silently."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} comes twice")
    return row


@contextlib.contextmanager
def _decompressed(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield cast(BinaryIO, stream)
    elif path.suffix == ".zst":
        yield cast(BinaryIO, io.BufferedReader(_WholeZstd(file), 1 << 20))
    else:
        yield file


@contextlib.contextmanager
def _compressed(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=6) as stream:
            yield cast(BinaryIO, stream)
    elif path.suffix == ".zst":
        with zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as writer:
            yield cast(BinaryIO, writer)
    else:
        yield file


class _WholeZstd(io.RawIOBase):
    """Zstandard frames as one stream, which raises EOFError where the last frame is cut off.

    Why: the library's own stream reader takes a file that ends inside a frame for a shorter one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._rest = b""
        self._ready = memoryview(b"")
        self._is_between_frames = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with decompressed bytes; 0 at the end of the last frame."""
        while not self._ready:
            raw = self._rest or self._file.read(1 << 17)
            if not raw:
                if self._is_between_frames:
                    return 0
                raise EOFError("the file ends inside a zstandard frame")
            self._ready = memoryview(self._frame.decompress(raw))
            self._rest, self._is_between_frames = b"", self._frame.eof
            if self._frame.eof:
                self._rest = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        part = self._ready[: len(buffer)]
        buffer[: len(part)] = part
        self._ready = self._ready[len(part) :]
        return len(part)
