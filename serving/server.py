"""The socket: waitress, set up for streams and for clients that leave.

Knows nothing of models. Threads exceed the requests that may be answered or wait, so that opt-outs,
documents and health are answered while every slot generates.

Why not gunicorn: its threads read requests themselves, so a few clients that send slowly stop all others, and each of
its processes would load an engine. Waitress reads a request whole before a thread gets it, and takes the answer off the
thread: a slow client costs a socket. So all that is needed is room for many of them, which it does not give by default.
"""

import logging
import select
import sys
from collections.abc import Callable
from typing import Any, Protocol

import waitress

from serving.bodies import MAX_BODY_BYTES
from serving.errors import CannotListen
from serving.runners import DEFAULT_SLOTS, DEFAULT_WAITING

N_SPARE_THREADS = 4
MOST_CONNECTIONS = 4096
SECONDS_OF_SILENCE = 60
"""After which a connection that is answering nothing is closed."""
_OTHER_FILES = 256
"""That the process may have open besides connections."""


class Server(Protocol):
    """What is used of a waitress server."""

    def run(self) -> None:
        """Answer requests until interrupted."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


def listen(app: Callable[..., Any], host: str, port: int) -> Server:
    """A server on ``host``; port 0 takes a free one. Raises CannotListen."""
    # It warns of requests that wait while its threads are still being started; later none waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=DEFAULT_SLOTS + DEFAULT_WAITING + N_SPARE_THREADS,
            # Reads on while a request is answered, which is how it notices that the client left.
            channel_request_lookahead=1,
            connection_limit=_most_connections(),
            channel_timeout=SECONDS_OF_SILENCE,
            asyncore_use_poll=hasattr(select, "poll"),
            # Over our own limit the application answers, with a problem; far over it waitress hangs up.
            max_request_body_size=16 * MAX_BODY_BYTES,
            ident=None,
        )
    except (OSError, ValueError) as error:
        raise CannotListen(
            f"cannot listen on {host!r}, port {port}: {error}. Name another address with --host, or port with --port."
        ) from error


def _most_connections() -> int:
    """As many as there are files for, with some left for all else."""
    if sys.platform == "win32":
        return 400  # of the 512 that its `select` takes
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MOST_CONNECTIONS if limit == resource.RLIM_INFINITY else max(100, min(MOST_CONNECTIONS, limit - _OTHER_FILES))
    )


def port_of(server: Server) -> int:
    """The port that ``server`` listens on; the first one where its host has several addresses."""
    listening = getattr(server, "effective_listen", None)
    return int(listening[0][1] if listening else server.effective_port)  # type: ignore[attr-defined]
