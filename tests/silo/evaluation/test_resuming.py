import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from datastore.optout import opt_out
from silo.corpora import write_documents
from silo.documents import Document
from silo.evaluation.attribution_commands import attribution
from silo.evaluation.extraction_command import extraction
from silo.evaluation.generation_command import generation
from silo.evaluation.optout_commands import optout
from silo.evaluation.resuming import Done
from silo.evaluation.served import Served
from silo.generation import Silo

SHARES = ("--knn-weight", "0.2", "--ngram-weight", "0.6")
FEW = {
    "optout": ("--max-tokens", "40", "--generated", "4", "--held-out", "2", "--steps", "1", "--removed", "1",
               "--n-kept", "1", "--at-least", "2"),
    "attribution": (*SHARES, "--positions", "5", "--max-tokens", "40", "--removed", "2", "--facts", "2",
                    "--generated", "6"),
    "extraction": ("--documents", "1", "--max-tokens", "6", "--prefix", "8", "--max-verbatim", "4",
                   "--attack", "prefix", "--attack", "middle", "--mixture", "lm", "--mixture", "fixed"),
    "generation": ("--prompts", "2", "--max-tokens", "6", "--prompt-tokens", "8", "--passages", "none"),
}  # fmt: skip
COMMANDS = {"optout": optout, "attribution": attribution, "extraction": extraction, "generation": generation}
HAS_TEXTS = ("attribution", "generation")


@pytest.fixture
def arguments(llama, build, manual, tmp_path):
    """Of each command, but for ``--cache`` and ``--out``."""
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    pages = manual(50, 54, "LicenseRef-test", 200)
    author = [Document(page.id, page.text, page.license, owner="one author") for page in pages[:2]]
    store = build(llama, [*author, *pages[2:]])
    write_documents(tmp_path / "texts.jsonl", pages[:2])
    common = ["--model", str(tmp_path / "model"), "--datastore", str(store.path)]
    texts = [str(tmp_path / "texts.jsonl")]
    return {name: [*(texts if name in HAS_TEXTS else []), *common, *few] for name, few in FEW.items()}


class Died(BaseException):
    """Stands for whatever ends a process."""


@pytest.fixture
def asked(monkeypatch):
    """Counts what a store or an LM is asked, and dies at the number that is set."""

    class Asked:
        n, dies_at = 0, -1

        def count(self):
            self.n += 1
            if self.n == self.dies_at:
                raise Died

    asked = Asked()
    for kind, name in ((Served, "ask"), (Silo, "generate")):
        inner = getattr(kind, name)

        def counted(*arguments, _inner=inner):
            asked.count()
            return _inner(*arguments)

        monkeypatch.setattr(kind, name, counted)
    return asked


def run(name, arguments, out, *more):
    app = typer.Typer()
    app.command()(COMMANDS[name])
    result = CliRunner().invoke(app, [*arguments, "--out", str(out), *more])
    if result.exception is not None:
        raise result.exception
    return figures(out)


def figures(out):
    """All rows, but for what took how long."""
    rows = json.loads(out.read_text())["rows"]
    return [row for row in rows if row.get("experiment") != "latency"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_that_died_goes_on_and_finds_what_an_unbroken_one_finds(name, arguments, asked, tmp_path):
    unbroken = run(name, arguments[name], tmp_path / "unbroken.json")
    n_in_all, cache, out = asked.n, ("--cache", str(tmp_path / "cache")), tmp_path / "out.json"
    asked.n, asked.dies_at = 0, n_in_all // 2 + 1
    with pytest.raises(Died):
        run(name, arguments[name], out, *cache)
    assert list((tmp_path / "cache").rglob("*.json")) and not out.exists()
    asked.n, asked.dies_at = 0, -1
    assert run(name, arguments[name], out, *cache) == unbroken
    assert 0 < asked.n < n_in_all
    asked.n = 0
    assert run(name, arguments[name], out, *cache) == unbroken and asked.n == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["optout", "attribution"])
def test_a_killed_process_leaves_what_the_next_one_needs(name, arguments, asked, tmp_path):
    unbroken = run(name, arguments[name], tmp_path / "unbroken.json")
    n_in_all, cache, out = asked.n, ("--cache", str(tmp_path / "cache")), tmp_path / "out.json"
    program = [sys.executable, str(Path(__file__).with_name("dying_run.py")), "6", name]
    ended = subprocess.run([*program, *arguments[name], *cache, "--out", str(out)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert not out.exists() and list((tmp_path / "cache").rglob("*.json"))
    asked.n = 0
    assert run(name, arguments[name], out, *cache) == unbroken
    assert 0 < asked.n < n_in_all


@pytest.fixture
def store(llama, build, manual):
    return build(llama, manual(50, 52, "LicenseRef-test", 200))


def test_a_part_is_made_once_and_again_for_other_contents_or_when_it_is_torn(llama, store, tmp_path, now):
    made = []

    def make():
        made.append(1)
        return {"figures": (0.1 + 0.2, len(made))}

    served = Served(llama)
    done = Done.of(tmp_path, served, store, "an experiment", 3)
    assert not done.has("part", "x")
    first = done.part("part", make, "x")
    assert first == {"figures": [0.1 + 0.2, 1]} == done.part("part", make, "x") and done.has("part", "x")
    assert done.part("part", make, "y") != first, "made of something else"
    assert Done.of(tmp_path, served, store, "an experiment", 4).part("part", make, "x") != first
    [path] = [path for path in tmp_path.rglob("part-*.json") if json.loads(path.read_text()) == first]
    path.write_bytes(path.read_bytes()[:-3])
    assert not done.has("part", "x") and done.part("part", make, "x")["figures"][1] == 4
    opt_out(store, next(iter(store.documents())).facts.id, now=now)
    later = Done.of(tmp_path, served, store, "an experiment", 3)
    assert not later.has("part", "x") and not list(tmp_path.rglob("part-*.json")), "a document left the store"


def test_without_a_cache_every_part_is_made(llama, store):
    done, made = Done.of(None, Served(llama), store), []
    assert [done.part("part", lambda: made.append(1) or len(made)) for _ in range(2)] == [1, 2]
    assert not done.has("part")
