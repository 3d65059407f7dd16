"""An LM joined with its datastore, or alone where that cannot be trusted. Imports what is heavy only when called."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from silo.generation import Silo


def opened(
    model: str,
    datastore: Path | None,
    device: str,
    max_verbatim: int | None = None,
    verbatim_allowance: int | None = None,
) -> "tuple[Silo, str | None]":
    """The LM joined with the datastore and the gate that lies with either, or alone where the datastore cannot be
    trusted, and why it cannot.

    An LM that did not write the datastore, or a folder that is none, is an error of whoever starts the server.
    """
    from datastore.errors import CorruptDatastore
    from silo.generation import Silo

    try:
        return Silo.open(model, datastore, device, max_verbatim, verbatim_allowance), None
    except CorruptDatastore as error:
        logging.getLogger("serving").error("the datastore is off: %s", error)
        return Silo.open(model, device=device), str(error)
