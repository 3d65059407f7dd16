"""An engine's process without a model: ``python scripted_engine.py FD FOLDER``. Its words are numbers.

It is loaded once ``FOLDER/may_load`` is there, and logs to ``FOLDER/log``. What a prompt says decides what happens:

``paced``  token *n* is made once ``FOLDER/n_allowed`` says more than *n*
``crash``  a fault of a native library at the third token, which ends the process
``fault``  an error that is not meant for people, at the third token
"""

import ctypes
import logging
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

from datastore.errors import DuplicateDocument
from serving import wire
from serving.runners import Runners
from serving.worker import serve
from silo.attribution import ContextSource, GeneratedToken, TokenSource
from silo.errors import BadRequest, PromptTooLong
from silo.ingested import Ingested

SLOTS = 2


class Counting:
    """One completion."""

    finish_reason: str | None = None
    datastore_epoch = 7
    text = ""

    def __init__(self, folder: Path, prompt: str, settings) -> None:
        self._folder, self._prompt, self._n = folder, prompt, settings.max_tokens
        self.n_prompt_tokens = len(prompt)
        self.context_sources = (ContextSource("opinion", (0, 1), (0, 1)),)

    def __iter__(self):
        log = (self._folder / "made").open("a")
        with log:
            for n in range(self._n):
                if self._prompt == "paced":
                    while int((self._folder / "n_allowed").read_text() or 0) <= n:
                        time.sleep(0.001)
                if n == 2 and self._prompt == "crash":
                    ctypes.string_at(0)
                if n == 2 and self._prompt == "fault":
                    raise KeyError("a secret")
                log.write(f"{n}\n")
                log.flush()
                word = f" {n}"
                yield GeneratedToken(
                    n, word, len(self.text), -0.1, ((n, -0.1),), 0.25, (TokenSource("opinion", 0, 0.75),)
                )
                self.text += word
        self.finish_reason = "length"


class Numbers:
    """What ``serving.protocols.Model`` asks for."""

    lm = SimpleNamespace(name="numbers", context_length=64)
    datastore = gate = max_verbatim = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def generate(self, prompt, settings) -> Counting:
        if not isinstance(prompt, str):
            raise BadRequest(f"token ids must be below 0; got {prompt[0]}")
        if len(prompt) > self.lm.context_length:
            raise PromptTooLong(f"the prompt must fit {self.lm.context_length} tokens; got {len(prompt)}")
        return Counting(self._folder, prompt, settings)


class NumberRunners(Runners):
    """Adds documents to nothing."""

    def ingest(self, documents):
        if documents[0].id == "opinion":
            raise DuplicateDocument("document id 'opinion' is in this store already")
        return Ingested(len(documents), 9, (("late", "reserved"),))


def main(file: str, folder: str) -> None:
    logging.basicConfig(filename=Path(folder) / "log")
    while not (Path(folder) / "may_load").exists():
        time.sleep(0.01)
    model = Numbers(Path(folder))
    makers = NumberRunners(model, slots=SLOTS, waiting=0, alone=model)
    serve(Connection(int(file)), makers, wire.Ready("numbers", 64, None, None))


if __name__ == "__main__":
    main(*sys.argv[1:])
