"""The command ``silo serve``. Imports what is heavy only when it runs."""

import ipaddress
import signal
from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[str, typer.Option(help="Folder of a checkpoint, or a causal LM's name on the hub.")],
    datastore: Annotated[
        Path | None, typer.Option(help="Folder of a datastore; without it the LM answers alone.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    device: Annotated[str, typer.Option(help="Where the LM runs, as torch names it.")] = "cpu",
    reviewer_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that opens the reviewer's pages; without it there are none."),
    ] = None,
) -> None:
    """Answer the OpenAI completions API, with attributions, and take opt-outs."""
    from serving import create_app
    from serving.engine import Engine
    from serving.portal import Portal
    from serving.portal_hosts import Network
    from serving.portal_review import read_token
    from serving.server import listen, port_of
    from silo.generation import Silo

    token = None if reviewer_token_file is None else read_token(reviewer_token_file)
    silo = Silo.open(model, datastore, device=device)
    engine = Engine(silo)
    portal = None if silo.datastore is None else Portal(silo.datastore, Network(), token)
    server = listen(create_app(engine, portal), host, port)

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
    if not _is_loopback(host):
        lines.append("Whoever can reach this address can opt documents out: there are no accounts yet.")
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
