"""From a recipe to a checkpoint: admission, vocabulary, shards, loop, manifest.

Each stage leaves its result, whole, in ``OUT.unfinished`` and is not repeated; so a killed run goes on
from where it was, with the text that it was admitted with. That folder holds the admitted documents,
and it is removed when the checkpoint, with its manifest, has been renamed into place.
"""

import dataclasses
import json
import math
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from silo.checkpoint import (
    HELD_OUT_NAME,
    REFUSED_NAME,
    TOKENIZER_TRAINED_ON_NAME,
    TRAINED_ON_NAME,
    Manifest,
    TrainingDocument,
    read_manifest,
    verify_checkpoint,
    verify_files,
    write_manifest,
    write_training_documents,
)
from silo.corpora import HUB_PREFIX, Location, read_documents, write_documents
from silo.datacard import write_card
from silo.documents import Document
from silo.errors import BadCheckpoint, UnreadableCorpus
from silo.files import new_file, new_folder
from silo.jsonl import write_jsonl
from silo.modelcard import write_model_card
from silo.overlap import Evaluation, shares
from silo.tokenizer import boundary_token, load_tokenizer
from training.admission import Tally, admit, is_held_out
from training.batches import Batches, validation_windows
from training.branching import RECIPE_NAME, STATE_NAME, branch, recipe_text, write_recipe
from training.config import DataRecipe, Recipe, resolved
from training.errors import BadOutput, BadRecipe, NothingAdmitted
from training.loop import Outcome, Progress, build_model, fit
from training.metrics import FILE_NAME as METRICS_NAME
from training.metrics import Metrics
from training.parallel import World
from training.selection import select
from training.shards import ShardFacts, document_lengths, has_shard, open_shard, write_shard
from training.vocabulary import train_vocabulary

UNFINISHED_SUFFIX = ".unfinished"
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def train_checkpoint(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    world: World = World(),  # noqa: B008
    longer_than: Path | None = None,
) -> Manifest:
    """Train as ``recipe`` says on documents under ``data``; the checkpoint appears whole at ``out``.

    Asked again after a kill, it resumes; asked again when done, it changes nothing. The first process of ``world``
    prepares and publishes; all of them train, and see ``data`` and ``out`` on one disk. ``longer_than``, the folder of
    an unfinished run of the same recipe with fewer tokens, is where it begins, if nothing of ``out`` is there yet.

    Raises:
        BadOutput: ``out`` holds something else, or an unfinished run of another recipe.
        NothingAdmitted: no document is left, or too little text for one window.
        silo.errors.SiloError: a corpus cannot be read.
    """
    if out.exists():
        return _finished(recipe, out)
    if not world.is_first:
        announce = _silent
    unfinished = out.with_name(out.name + UNFINISHED_SUFFIX)
    with world.in_turn():
        if longer_than is not None and not unfinished.exists():
            branch(longer_than, recipe, unfinished)
        work = _work_folder(recipe, out)
        admission = _admitted(recipe, data, work, announce)
        tokenizer = _vocabulary(recipe, out, work, announce)
        train_shard = _shard(work, "train", tokenizer, recipe, announce)
        held_out = _shard(work, "held-out", tokenizer, recipe, announce)
    tokens, _ = open_shard(train_shard)
    validation, validation_facts = open_shard(held_out)
    model = build_model(recipe.model, len(tokenizer), boundary_token(tokenizer), recipe.loop.seed)
    if recipe.start.checkpoint:
        _start_from(model, out.parent / recipe.start.checkpoint)
    outcome = fit(
        model,
        Batches(tokens, recipe.model.context, recipe.loop.batch_size, recipe.loop.seed),
        validation_windows(validation, recipe.model.context, recipe.loop.validation_windows),
        recipe,
        work / STATE_NAME,
        device=device,
        report=_both(Metrics(work / METRICS_NAME, recipe.tokens_per_step), report),
        clock=clock,
        world=world,
    )
    with world.in_turn():
        if world.is_first:
            manifest = _manifest(recipe, admission, outcome, validation_facts, device, world)
            _publish(out, work, model, tokenizer, manifest, recipe)
            shutil.rmtree(work)
    return read_manifest(out)


def _start_from(model: LlamaForCausalLM, source: Path) -> None:
    """Give ``model`` the weights of the checkpoint ``source``. Raises BadRecipe where it is of another shape."""
    verify_files(source)
    given = LlamaForCausalLM.from_pretrained(source).state_dict()
    wanted = model.state_dict()
    if {name: value.shape for name, value in given.items()} != {name: value.shape for name, value in wanted.items()}:
        raise BadRecipe(f"start.checkpoint {source} has another shape than the recipe's [model]; give it that shape")
    model.load_state_dict(given)


def _both(first: Callable[[Progress], None], second: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        first(progress)
        second(progress)

    return told


def _silent(_: str) -> None:
    """Announces nothing."""


def _finished(recipe: Recipe, out: Path) -> Manifest:
    try:
        manifest = read_manifest(out)
    except BadCheckpoint as error:
        raise BadOutput(f"{out} is there already and is no checkpoint: {error}. Give another --out.") from error
    if manifest.recipe != resolved(recipe):
        raise BadOutput(f"{out} holds a checkpoint of another recipe. Give another --out, or move it away.")
    return manifest


def _work_folder(recipe: Recipe, out: Path) -> Path:
    work = out.with_name(out.name + UNFINISHED_SUFFIX)
    path = work / RECIPE_NAME
    if path.exists() and path.read_text(encoding="utf-8") != recipe_text(recipe):
        raise BadOutput(f"{work} holds an unfinished run of another recipe. Remove it, or give another --out.")
    if not path.exists():
        write_recipe(work, recipe)
    return work


def _admitted(recipe: Recipe, data: Path, work: Path, announce: Callable[[str], None]) -> Tally:
    """Read, admit and keep the documents; every later stage reads the kept ones and nothing else."""
    done = work / "admission.json"
    if not done.exists():
        tally = Tally()
        validating = _documents(recipe.validation, data)
        write_documents(_spool(work, held_out=True), admit(validating, recipe.admission, Tally()))
        known = {document.digest for document in read_documents(_spool(work, held_out=True))}
        training = (document for document in _documents(recipe.data, data) if document.digest not in known)
        evaluations = _evaluations(recipe, data)
        write_documents(_spool(work), select(training, recipe, evaluations, tally))
        write_jsonl(work / REFUSED_NAME, map(dataclasses.asdict, tally.refusals))
        kept = ((document.source or "no source", document) for document in read_documents(_spool(work)))
        overlap = shares(kept, evaluations) if evaluations else {}
        with new_file(done) as stream:
            counts = {"admitted": tally.admitted, "refused": tally.refused, "n_empty": tally.n_empty}
            counts["overlap"] = overlap
            stream.write(json.dumps(counts).encode("utf-8"))
    counts = json.loads(done.read_text(encoding="utf-8"))
    tally = Tally(Counter(counts["admitted"]), Counter(counts["refused"]), counts["n_empty"])
    refusals = "".join(f"\n  {n:,} x {reason}" for reason, n in tally.refused.most_common())
    announce(f"admitted {tally.admitted.total():,} documents, refused {tally.refused.total():,}{refusals}")
    if not tally.admitted:
        raise NothingAdmitted(
            f"no document under {data} may train with classes {', '.join(recipe.admission.classes)}; "
            f"refused {tally.refused.total():,}:{refusals or ' none were found'}"
        )
    return tally


def _evaluations(recipe: Recipe, data: Path) -> list[Evaluation]:
    """What the training text may not repeat, named by its place in ``data``."""
    places = [place for location in recipe.decontamination.evaluations for place in _places(location, data)]
    return [
        Evaluation.of(str(place).removeprefix(f"{data}{os.sep}"), read_documents(place), recipe.decontamination.n)
        for place in places
    ]


def _documents(entries: Sequence[DataRecipe], data: Path) -> Iterator[Document]:
    locations = [
        Location(
            place,
            license=entry.license,
            source=entry.source,
            owner=entry.owner,
            text_field=entry.text_field,
            split=entry.split,
        )
        for entry in entries
        for place in _places(entry.location, data)
    ]
    return read_documents(*locations)


def _places(location: str, data: Path) -> Sequence[str | Path]:
    if location.startswith(HUB_PREFIX):
        return [location]
    if "*" not in location:
        return [data / location]
    if found := sorted(data.glob(location)):
        return found
    raise UnreadableCorpus(f"nothing in {data} matches {location!r}, a location of the recipe. Give the right --data.")


def _vocabulary(recipe: Recipe, out: Path, work: Path, announce: Callable[[str], None]) -> PreTrainedTokenizerBase:
    if recipe.vocabulary.checkpoint:
        source = out.parent / recipe.vocabulary.checkpoint
        verify_checkpoint(source)
        tokenizer = load_tokenizer(source)
        if len(tokenizer) != recipe.vocabulary.size:
            raise BadRecipe(
                f"vocabulary.size is {recipe.vocabulary.size}; the tokenizer of {source} has {len(tokenizer)}"
            )
        return tokenizer
    folder = work / "tokenizer"
    if not folder.exists():
        announce("training the tokenizer")
        texts = (document.text for document in _kept(work, recipe, held_out=False))
        tokenizer = train_vocabulary(texts, recipe.vocabulary.size, recipe.model.context)
        with new_folder(folder) as temporary:
            tokenizer.save_pretrained(temporary)
    return load_tokenizer(folder)


def _shard(
    work: Path, name: str, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, announce: Callable[[str], None]
) -> Path:
    path = work / f"{name}.npy"
    if not has_shard(path):
        texts = (document.text for document in _kept(work, recipe, held_out=name == "held-out"))
        facts = write_shard(path, texts, tokenizer)
        announce(f"{name}: {facts.n_documents:,} documents, {facts.n_bytes:,} bytes, {facts.n_tokens:,} tokens")
    return path


def _kept(work: Path, recipe: Recipe, *, held_out: bool) -> Iterator[Document]:
    if recipe.validation:
        yield from read_documents(_spool(work, held_out=held_out))
        return
    for document in read_documents(_spool(work)):
        if is_held_out(document, recipe.admission) == held_out:
            yield document


def _spool(work: Path, *, held_out: bool = False) -> Path:
    return work / ("validating.jsonl.zst" if held_out else "admitted.jsonl.zst")


def _manifest(
    recipe: Recipe, admission: Tally, outcome: Outcome, facts: ShardFacts, device: str, world: World
) -> Manifest:
    losses = {"train": outcome.train_loss}
    if outcome.validation_loss is not None:
        losses["validation"] = outcome.validation_loss
        tokens_per_byte = facts.n_tokens / facts.n_bytes
        losses["validation_bits_per_byte"] = outcome.validation_loss / math.log(2) * tokens_per_byte
    notes = {"device": device, "threads": str(torch.get_num_threads()), "training_seconds": f"{outcome.seconds:.1f}"}
    notes["processes"] = str(world.size)
    if recipe.loop.minutes is not None:
        notes["repeating"] = (
            "this run was bounded by time, so another machine, or a busier one, makes another checkpoint; "
            f"the recipe with loop.tokens = {outcome.n_tokens} in place of loop.minutes repeats this one"
        )
    return Manifest(
        recipe=resolved(recipe),
        admitted=dict(admission.admitted),
        refused=dict(admission.refused),
        n_held_out=facts.n_documents,
        n_tokens=outcome.n_tokens,
        n_steps=outcome.n_steps,
        losses=losses,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        notes=notes,
    )


def _publish(
    out: Path,
    work: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    manifest: Manifest,
    recipe: Recipe,
) -> None:
    with new_folder(out) as folder:
        model.to("cpu").eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        shutil.copyfile(work / METRICS_NAME, folder / METRICS_NAME)
        if recipe.vocabulary.checkpoint:
            source = out.parent / recipe.vocabulary.checkpoint
            first = source / TOKENIZER_TRAINED_ON_NAME  # it may have taken its own tokenizer from a third
            shutil.copyfile(first if first.exists() else source / TRAINED_ON_NAME, folder / TOKENIZER_TRAINED_ON_NAME)
        trained_on = Counter[str]()
        for name, held_out in ((TRAINED_ON_NAME, False), (HELD_OUT_NAME, True)):
            tokens, _ = open_shard(work / ("held-out.npy" if held_out else "train.npy"))
            lengths = document_lengths(tokens, boundary_token(tokenizer))
            kept = zip(_kept(work, recipe, held_out=held_out), lengths, strict=True)
            rows = [TrainingDocument.of(document, n_tokens) for document, n_tokens in kept]
            write_training_documents(folder / name, rows)
            trained_on.update(row.risk for row in rows if not held_out)
        shutil.copyfile(work / REFUSED_NAME, folder / REFUSED_NAME)
        overlap = json.loads((work / "admission.json").read_text(encoding="utf-8"))["overlap"]
        write_card(folder, recipe.name, manifest.refused, overlap, datetime.now(UTC).date())
        complete = dataclasses.replace(manifest, admitted=dict(trained_on))
        write_model_card(folder, complete, sum(parameter.numel() for parameter in model.parameters()))
        write_manifest(folder, complete)
