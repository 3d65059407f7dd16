"""The engine's process, whose LM reads a token beyond the prompt once ``FOLDER/n_allowed`` says more than were read.

``python paced_engine.py FD RECIPE FOLDER``. With ``FOLDER/hold`` a step of the datastore is not left before the file is
gone; ``FOLDER/held`` is there while one waits, and ``FOLDER/steps`` grows by a line as each that waited is left.
"""

import sys
import time
from pathlib import Path

from datastore.store import Datastore
from serving import worker
from silo.decoder import Decoder


def main(file: str, recipe: str, folder: Path) -> None:
    read, search = Decoder.advance_all, Datastore.search
    n_read = 0

    def paced(self, tokens):
        nonlocal n_read
        while int((folder / "n_allowed").read_text() or 0) <= n_read:
            time.sleep(0.001)
        n_read += 1
        return read(self, tokens)

    def held(self, *arguments, **more):
        found = search(self, *arguments, **more)
        if (folder / "hold").exists():
            (folder / "held").touch()
            while (folder / "hold").exists():
                time.sleep(0.001)
            (folder / "held").unlink()
            with (folder / "steps").open("a") as log:
                log.write("left\n")
        return found

    Decoder.advance_all, Datastore.search = paced, held
    worker.main([file, recipe])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
