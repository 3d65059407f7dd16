"""The command ``silo serve``. Imports what is heavy only when it runs."""

import ipaddress
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from silo.packaged import DEFAULT
from silo.settings import DEFAULT_MAX_VERBATIM

if TYPE_CHECKING:
    pass


def serve(
    model: Annotated[
        str, typer.Option(help=f"Folder of a checkpoint, {DEFAULT!r}, which comes with SILO, or a causal LM's hub id.")
    ] = DEFAULT,
    datastore: Annotated[
        Path | None, typer.Option(help="Folder of a datastore; without it the LM answers alone.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    device: Annotated[str, typer.Option(help="Where the LM runs, as torch names it.")] = "cpu",
    keys: Annotated[
        str | None, typer.Option(help="File of API keys (`silo keys create`), or the URL of a database.")
    ] = None,
    reviewer_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that opens the reviewer's pages; without it there are none."),
    ] = None,
    max_verbatim: Annotated[
        int,
        typer.Option(
            min=0,
            help="Tokens in a row that answers and excerpts may have of high-risk text, whatever a request says; "
            "0: no limit.",
        ),
    ] = DEFAULT_MAX_VERBATIM,
    verbatim_allowance: Annotated[
        int,
        typer.Option(
            min=0,
            help="Tokens by which an answer may go on with high-risk text that its prompt quotes up to that limit.",
        ),
    ] = 0,
    process: Annotated[
        bool,
        typer.Option(
            "--process/--in-process",
            help="Whether the LM has a process of its own: a crash of it then costs running answers and nothing else.",
        ),
    ] = sys.platform != "win32",
) -> None:
    """Answer the OpenAI completions API, with attributions, and take opt-outs.

    Without keys everybody who reaches the server may do everything, so it listens to this machine alone.
    """
    from serving import create_app, engines
    from serving.access import Access
    from serving.errors import CannotListen
    from serving.keys import KeyBook
    from serving.portal import Portal
    from serving.portal_hosts import Network
    from serving.portal_review import read_token
    from serving.server import listen, port_of

    if keys is None and not _is_loopback(host):
        raise CannotListen(
            f"without keys everybody who reaches {host} could take documents out. "
            "Make keys with `silo keys create` and name their file with --keys, or listen on 127.0.0.1."
        )
    token = None if reviewer_token_file is None else read_token(reviewer_token_file)
    sys.setswitchinterval(0.0005)  # a thread that has its token waits for the others' Python no longer than that
    make = engines.remote_engine if process else engines.local_engine
    engine, store = make(model, datastore, device, max_verbatim or None, verbatim_allowance)
    access = None if keys is None else Access.of(KeyBook(keys))
    hosts = Network()
    portal = None if store is None else Portal(store, hosts, token)
    app = create_app(engine, access=access, hosts=hosts, is_local=keys is None, portal=portal)
    server = listen(app, host, port)

    def stop(*_: object) -> None:
        """Threads inside the LM when Python ends would take the process down with a crash: end them first."""
        engine.close()
        raise SystemExit(0)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)
    typer.echo(welcome(engine.model_name, host, port_of(server)), color=False)
    try:
        server.run()
    finally:
        server.close()
        engine.close()
        engine.makers.join(10)


def welcome(model: str, host: str, port: int) -> str:
    """What the command prints: where it listens, and a first request to try."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [
        f"Serving {model} at {url} (stop with Ctrl-C). Try:",
        "",
        f"  curl {url}/v1/completions -H 'Content-Type: application/json' \\",
        """    -d '{"prompt": "The Congress", "max_tokens": 40, "attributions": true}'""",
        "",
        f"  or open {url}/playground in a browser",
        "",
    ]
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
