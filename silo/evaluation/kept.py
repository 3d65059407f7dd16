"""Arrays that are kept in files: any dataclass of numpy arrays, one safetensors file each."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from silo.files import new_file

Arrays = TypeVar("Arrays")


def keep(path: Path, arrays: Any) -> None:
    """Write ``arrays``, a dataclass whose fields are all numpy arrays, to ``path``; whole or not at all."""
    with new_file(path) as stream:
        stream.write(save({item.name: getattr(arrays, item.name) for item in fields(arrays)}))


def kept(path: Path, kind: type[Arrays]) -> Arrays | None:
    """What ``keep`` wrote, as ``kind``; None where there is none, or it is torn."""
    try:
        with safe_open(path, "np") as file:
            return kind(**{name: file.get_tensor(name) for name in kind.__dataclass_fields__})  # type: ignore[attr-defined]
    except (SafetensorError, OSError):
        return None
