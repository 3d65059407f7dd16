"""`silo doctor`: is this installation sound? Looks, and changes nothing."""

import importlib.util
from importlib.metadata import PackageNotFoundError, version

MIN_FAISS = (1, 15, 1)


def examine() -> bool:
    """Print a line per finding; True where nothing needs mending."""
    findings = [_faiss(), _blas(), *(_package(name) for name in ("torch", "transformers", "sqlalchemy", "flask"))]
    for is_sound, line in findings:
        print(f"{'ok  ' if is_sound else 'MEND'}  {line}")
    return all(is_sound for is_sound, _ in findings)


def _faiss() -> tuple[bool, str]:
    found = [name for name in ("faiss-cpu", "faiss-gpu") if _version(name)]
    if len(found) == 2:
        return False, "faiss-cpu and faiss-gpu overwrite each other; uninstall both, then install one of them"
    if not found or importlib.util.find_spec("faiss") is None:
        return False, "faiss is missing; install the extra `cpu` or `gpu` of silo-lm"
    number = _version(found[0]) or "0"
    if tuple(int(part) for part in number.split(".")[:3]) < MIN_FAISS:
        return False, f"{found[0]} {number} is older than 1.15.1, which refuses torn files; upgrade it"
    return True, f"{found[0]} {number}"


def _blas() -> tuple[bool, str]:
    import os

    policy = os.environ.get("OMP_WAIT_POLICY", "")
    return True, f"OMP_WAIT_POLICY={policy or 'not set (the command sets PASSIVE)'}"


def _package(name: str) -> tuple[bool, str]:
    number = _version(name)
    return (True, f"{name} {number}") if number else (False, f"{name} is missing; install silo-lm again")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
