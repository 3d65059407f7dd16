"""The command ``silo serve``. Imports what is heavy only when it runs."""

import ipaddress
import signal
from pathlib import Path
from typing import Annotated

import typer

from silo.packaged import DEFAULT


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
) -> None:
    """Answer the OpenAI completions API, with attributions, and take opt-outs."""
    from serving import create_app
    from serving.engine import Engine
    from serving.server import listen, port_of
    from silo.generation import Silo

    engine = Engine(Silo.open(model, datastore, device=device))
    server = listen(create_app(engine), host, port)

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
    ]
    if not _is_loopback(host):
        lines.append("Whoever can reach this address can opt documents out: there are no accounts yet.")
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
