"""`silo demo`: the four journeys on real text, one after the other.

Each step is a command that a newcomer can type again, printed before it runs in a process of its
own; so the demo shows what the commands do and imports no half of SILO. A step whose outcome is there
already is passed over, so an interrupted demo goes on where it stopped. Since a document that was
opted out stays out, another run finds the next source and opts that one out.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from silo.errors import DemoStopped
from silo.packaged import DEFAULT, has_fitted, is_packaged, location

if TYPE_CHECKING:
    from rich.console import Console

N_PROMPT_WORDS = 16
N_TOKENS = 48
SHARP = ["--knn-weight", "0.9", "--knn-temperature", "0.1"]
"""A small LM knows little: the datastore gets most of the say, and its nearest entries most of that."""
RECIPE = "demo.toml"
"""Of the recipes that come with `silo train`."""
LICENSED = ("licensed/pd.jsonl.gz", "licensed/sw.jsonl.gz", "licensed/by.jsonl.gz")
HIGH_RISK = ("high-risk/news.jsonl.gz", "high-risk/code.jsonl.gz")

Run = Callable[[Sequence[str]], int]
"""Runs a command, given as it would be typed, and returns its exit status."""


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path(".demo"),
    model: Annotated[
        str | None, typer.Option(help="A checkpoint to use; without it the one that comes with SILO.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train an LM of its own first, for two minutes.")] = False,
    prompt: Annotated[
        str | None, typer.Option(help="What to continue; without it, the opening of the first story that is not out.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--keep", help="Begin anew, or keep what earlier runs made. Packages stay.")
    ] = False,
) -> None:
    """Retrieve, credit, opt out and prove it, on real text in a few minutes."""
    from rich.console import Console

    if fresh:
        clear(folder)
    if model is None and not train:
        train, model = (False, DEFAULT) if is_packaged() else (True, None)
    run_demo(Demo(folder, model or str(folder / "model"), prompt, train), run_command, Console(highlight=False))


@dataclass(frozen=True)
class Demo:
    """Where things lie, and what is asked."""

    folder: Path
    model: str
    prompt: str | None = None
    """None: an owner's question, the opening words of a stored story."""
    train: bool = True
    """Whether ``model`` is the demo's own, to be trained."""

    @property
    def store(self) -> Path:
        """The datastore."""
        return self.folder / "store"

    def receipt(self, document: str) -> Path:
        """Where the receipt for ``document`` goes."""
        return self.folder / "receipts" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', document)}.json"

    def files(self, names: Sequence[str]) -> list[str]:
        """Corpus files, as typed."""
        return [str(self.folder / name) for name in names]


@dataclass
class Steps:
    """Prints and runs one command after another, and keeps the time."""

    run: Run
    console: "Console"
    seconds: dict[str, float] = field(default_factory=dict)

    def step(self, title: str, command: Sequence[str], made: Path | None = None) -> None:
        """Run ``command`` unless ``made`` is there.

        Raises:
            DemoStopped: the command failed; says which, and how to go on.
        """
        self.heading(title)
        if made is not None and made.exists():
            self.console.print(f"{made} is there already: nothing to do.", style="dim", markup=False, soft_wrap=True)
            return
        self.console.print(f"$ {shlex.join(command)}\n", style="cyan", markup=False, soft_wrap=True)
        begun = time.monotonic()
        status = self.run(command)
        self.seconds[title] = time.monotonic() - begun
        if status:
            raise DemoStopped(
                f"the demo stopped at “{title}”: expected exit status 0, got {status} from\n  {shlex.join(command)}\n"
                "The reason is above. Mend it and run `silo demo` again: finished steps are kept "
                "(`silo demo --fresh` begins anew)."
            )

    def heading(self, title: str) -> None:
        """A rule with the title of a step."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")


def run_demo(demo: Demo, run: Run, console: "Console") -> None:
    """All steps in order, then a summary.

    Raises:
        DemoStopped: a step failed, nothing could be credited, or a removed document was retrieved.
    """
    from silo.demo_corpus import is_complete

    steps = Steps(run, console)
    store, model = ["--store", str(demo.store)], ["--model", demo.model]
    corpus = demo.folder / "corpus.json"
    if not is_complete(demo.folder):
        corpus.unlink(missing_ok=True)
    steps.step("Fetch the text", ["python", "-m", "silo.demo_corpus", str(demo.folder)], made=corpus)
    steps.step("What may train, and what may not", ["silo", "corpus", "info", *demo.files(LICENSED + HIGH_RISK)])
    if demo.train:
        train = ["silo", "train", RECIPE, "--data", str(demo.folder / "licensed"), "--out", demo.model]
        steps.step("Train a small LM on licensed text", train, made=Path(demo.model) / "silo-manifest.json")
    build = ["silo", "datastore", "build", str(demo.store), *model]
    build += [part for file in demo.files(HIGH_RISK) for part in ("--documents", file)]
    if not has_fitted(Path(location(demo.model))):
        build += [part for file in demo.files(LICENSED) for part in ("--licensed", file)]
    steps.step("Store the high-risk text", build, made=demo.store / "manifest.json")

    prompt = demo.prompt or opening(demo)
    before = generate(demo, prompt, steps, "Answer, and say whose text it was", demo.folder / "before.json")
    document, mass = top_source(before)
    console.print(
        f"\nThe largest source is {document}, with {mass:.1%} of the answer.",
        style="bold",
        markup=False,
        soft_wrap=True,
    )
    receipt = demo.receipt(document)
    receipt.parent.mkdir(parents=True, exist_ok=True)
    steps.step("Its owner opts out", ["silo", "optout", document, *store, "--receipt", str(receipt)])
    after = generate(demo, prompt, steps, "Answer again", demo.folder / "after.json")
    if document in sources(after):
        raise DemoStopped(f"{document} was opted out and still took part in {demo.folder / 'after.json'}. Report this.")
    console.print(f"\n{document} has no part in this answer.", style="bold green", markup=False, soft_wrap=True)
    steps.step("Verify the receipt", ["silo", "datastore", "verify", str(receipt), *store])
    steps.step("Erase what is left of it", ["silo", "datastore", "compact", str(demo.store)])
    summarize(demo, prompt, steps, receipt)


def opening(demo: Demo) -> str:
    """The first words of the first news story, in the order of the file, that no earlier run opted out.

    A fixed rule, so that nobody picked the story for what it shows.

    Raises:
        DemoStopped: every story is out.
    """
    from silo.corpora import read_documents

    for document in read_documents(str(demo.folder / HIGH_RISK[0])):
        if not demo.receipt(document.id).exists():
            return " ".join(document.text.split(" ")[:N_PROMPT_WORDS])
    raise DemoStopped("every news story was opted out by earlier runs. Begin anew with `silo demo --fresh`.")


def generate(demo: Demo, prompt: str, steps: Steps, title: str, out: Path) -> dict[str, Any]:
    """One answer with its attributions, the same for the same store: greedy, from a fixed seed."""
    command = ["silo", "generate", prompt, "--model", demo.model, "--datastore", str(demo.store)]
    command += ["--max-tokens", str(N_TOKENS), "--seed", "0", *SHARP, "--json", str(out)]
    out.unlink(missing_ok=True)
    steps.step(title, command)
    answer: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def sources(answer: dict[str, Any]) -> dict[str, float]:
    """Each document's share of an answer: the mean over its tokens of the document's mass."""
    shares: dict[str, float] = {}
    for token in answer["tokens"]:
        for source in token["sources"]:
            shares[source["document"]] = shares.get(source["document"], 0.0) + source["mass"] / len(answer["tokens"])
    return shares


def top_source(answer: dict[str, Any]) -> tuple[str, float]:
    """The document with the largest share, the first by name among equals.

    Raises:
        DemoStopped: no document has a share.
    """
    shares = sources(answer)
    if not shares:
        raise DemoStopped(
            "no document of the datastore took part in the answer, so there is nothing to opt out. "
            "Try another prompt (`silo demo --prompt …`), or begin anew with `silo demo --fresh`."
        )
    return min(shares.items(), key=lambda share: (-share[1], share[0]))


def summarize(demo: Demo, prompt: str, steps: Steps, receipt: Path) -> None:
    """Time by step, where each thing lies, and how to go on."""
    from rich.table import Table

    steps.heading("Done")
    times = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    times.add_column(justify="right")
    for title, seconds in steps.seconds.items():
        times.add_row(f"{seconds:.1f} s", title)
    times.add_row(f"{sum(steps.seconds.values()):.1f} s", "in all", style="bold")
    places = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for path, what in (
        (demo.folder / "corpus.json", "the texts: licenses, evidence, checksums"),
        (demo.model, "the LM, with digests and licenses of all that trained it"),
        (demo.store, "the datastore"),
        (receipt, "the receipt"),
        (demo.folder / "before.json", "the answer before the opt-out; after.json: the one after it"),
    ):
        places.add_row(str(path), what)
    steps.console.print(times, "", places, sep="\n")
    serve = ["silo", "serve", "--model", demo.model, "--datastore", str(demo.store)]
    knn = {"weight": 0.9, "temperature": 0.1}
    body = json.dumps(
        {"prompt": prompt, "max_tokens": N_TOKENS, "temperature": 0, "knn": knn, "attributions": True},
        ensure_ascii=False,
    )
    curl = ["curl", "http://127.0.0.1:8000/v1/completions", "-H", "Content-Type: application/json", "-d", body]
    steps.console.print("\nServe it, and ask from another terminal:\n", style="bold")
    for command in (serve, curl):
        steps.console.print(f"$ {shlex.join(command)}", style="cyan", markup=False, soft_wrap=True)


def clear(folder: Path) -> None:
    """Take away what the demo made in ``folder``, and nothing else; fetched packages stay."""
    for name in ("licensed", "high-risk", "model", "model.unfinished", "store", "store.unfinished", "receipts"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("corpus.json", "before.json", "after.json"):
        (folder / name).unlink(missing_ok=True)


def run_command(command: Sequence[str]) -> int:
    """Run ``silo …`` or ``python …`` with this interpreter, in the terminal that we are in."""
    sys.stdout.flush()
    prefix = [sys.executable, "-m", "silo"] if command[0] == "silo" else [sys.executable]
    return subprocess.run([*prefix, *command[1:]], check=False).returncode
