"""What a figure was made with, so that it can be made again: configuration, commit, versions, hashes of data.

Knows nothing of what is measured.
"""

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from silo.files import new_file

_PACKAGES = ("torch", "transformers", "tokenizers", "faiss-cpu", "faiss-gpu", "numpy", "silo-lm")


def record(config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, seed: int, now: datetime) -> dict[str, Any]:
    """One recorded run, as plain JSON."""
    return {
        "config": dict(config),
        "argv": typed(sys.argv),
        "commit": commit(Path(__file__).parent),
        "seed": seed,
        "date": now.isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
        "rows": [dict(row) for row in rows],
    }


def write_record(path: Path, recorded: Mapping[str, Any]) -> None:
    """Write a run as JSON that can be read as a difference; it appears whole."""
    with new_file(path) as stream:
        stream.write(json.dumps(recorded, indent=1, sort_keys=True).encode("utf-8") + b"\n")


def commit(folder: Path) -> str:
    """The commit of the code in ``folder``, with ``+`` where files differ from it; empty outside of a repository."""
    found = _git(folder, "rev-parse", "HEAD")
    return found + "+" if found and _git(folder, "status", "--porcelain", "--untracked-files=no") else found


def typed(argv: Sequence[str]) -> list[str]:
    """The command line that runs, as one types it: ``silo …``, or ``python FILE …``."""
    program = Path(argv[0])
    if program.name in {"silo", "__main__.py"}:
        return ["silo", *argv[1:]]
    return ["python", f"{program.parent.name}/{program.name}", *argv[1:]]


def digest_of(digests: Iterable[str]) -> str:
    """One SHA-256, hex, for documents by their digests, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
