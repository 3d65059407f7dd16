"""The engine of a server: with the completions made here, or by a process of their own.

A datastore that cannot be trusted is off, and the reason is told; the rest is served without it. Imports what is heavy
only when it is called.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from serving.opening import opened

if TYPE_CHECKING:
    from datastore.store import Datastore
    from serving.engine import Engine


def local_engine(
    model: str, datastore: Path | None, device: str, max_verbatim: int | None, verbatim_allowance: int = 0
) -> "tuple[Engine, Datastore | None]":
    """An engine that makes completions in this process, and its datastore."""
    from serving.engine import Engine

    silo, trouble = opened(model, datastore, device, max_verbatim, verbatim_allowance)
    return Engine.of_silo(silo, store_trouble=trouble), silo.datastore


def remote_engine(
    model: str, datastore: Path | None, device: str, max_verbatim: int | None, verbatim_allowance: int = 0
) -> "tuple[Engine, Datastore | None]":
    """An engine that has completions made by a process of their own, and the datastore as this process has it."""
    from datastore.errors import CorruptDatastore
    from datastore.store import Datastore
    from serving.engine import Engine
    from serving.remote import RemoteLM, RemoteMakers, RemoteModel, command_of
    from serving.worker import Recipe
    from silo.packaged import location

    store, trouble = None, None
    if datastore is not None:
        try:
            store = Datastore.open(datastore)
        except CorruptDatastore as error:
            logging.getLogger("serving").error("the datastore is off: %s", error)
            trouble = str(error)
    path = None if store is None else str(datastore)
    makers = RemoteMakers(command_of(Recipe(model, path, device, max_verbatim, verbatim_allowance)))
    try:
        from silo.tokenizer import load_tokenizer  # takes seconds, in which the other process loads the model

        ready = makers.wait_for_first()
        lm = RemoteLM(ready.name, ready.context_length, load_tokenizer(location(model)))
    except BaseException:
        makers.close()
        makers.join(1)
        raise
    served = RemoteModel(lm, store, ready.gate, max_verbatim)
    return Engine(served, makers=makers, store_trouble=trouble), store
