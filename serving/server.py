"""The socket: waitress, set up for streams and for clients that leave.

Knows nothing of models. Threads exceed the requests that may be answered or wait, so that opt-outs,
documents and health are answered while every slot generates. Waitress reads a request whole before a thread gets it,
so a client that sends slowly costs a socket and no thread.
"""

from collections.abc import Callable
from typing import Any, Protocol

import waitress

from serving.bodies import MAX_BODY_BYTES
from serving.errors import CannotListen
from serving.runners import DEFAULT_SLOTS, DEFAULT_WAITING

N_SPARE_THREADS = 4


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
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=DEFAULT_SLOTS + DEFAULT_WAITING + N_SPARE_THREADS,
            # Reads on while a request is answered, which is how it notices that the client left.
            channel_request_lookahead=1,
            # Over our own limit the application answers, with a problem; far over it waitress hangs up.
            max_request_body_size=16 * MAX_BODY_BYTES,
            ident=None,
        )
    except (OSError, ValueError) as error:
        raise CannotListen(
            f"cannot listen on {host!r}, port {port}: {error}. Name another address with --host, or port with --port."
        ) from error


def port_of(server: Server) -> int:
    """The port that ``server`` listens on; the first one where its host has several addresses."""
    listening = getattr(server, "effective_listen", None)
    return int(listening[0][1] if listening else server.effective_port)  # type: ignore[attr-defined]
