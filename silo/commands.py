"""Commands that need both halves: `silo datastore build`, `silo datastore add`, `silo generate`, `silo doctor`.

Thin: reads arguments, calls the library, prints. Heavy imports are inside, so `silo --help` stays fast.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from silo.packaged import DEFAULT
from silo.settings import DEFAULT_CODEC, DEFAULT_PCA

if TYPE_CHECKING:
    from datastore.records import EncodedDocument
    from datastore.store import Datastore
    from silo.documents import Document
    from silo.generation import Generation, Silo
    from silo.lm import LanguageModel
    from silo.passages import PassageEncoder

Model = Annotated[
    str, typer.Option(help=f"A checkpoint folder, {DEFAULT!r}, which comes with SILO, or the hub id of a causal LM.")
]
Documents = Annotated[list[str], typer.Option(help="JSONL file, text file or folder, or dataset; may be repeated.")]
Passages = Annotated[
    str | None,
    typer.Option(
        "--passages", help="Keep a vector of each passage, by `minilm` or a sentence-transformers model in a folder."
    ),
]
Evaluations = Annotated[
    list[str] | None, typer.Option(help="Evaluation text; documents that repeat it are left out. May be repeated.")
]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda, …")]


def build(
    store: Annotated[Path, typer.Argument(help="The folder to make.")],
    documents: Documents,
    model: Model = DEFAULT,
    licensed: Annotated[
        list[str] | None,
        typer.Option(help="Licensed text to fit on; may be repeated. Without it, what was packed with the LM."),
    ] = None,
    lists: Annotated[
        int, typer.Option(min=1, help="Inverted lists to fit; about twice the root of the number of entries.")
    ] = 512,
    codec: Annotated[str, typer.Option(help="Bytes of a stored key: fp16, sq8 or pq; to fit.")] = DEFAULT_CODEC,
    pca: Annotated[int, typer.Option(min=0, help="Dimensions that PCA leaves of a key; 0: all; to fit.")] = DEFAULT_PCA,
    license: Annotated[str, typer.Option(help="License of documents that name none.")] = "",  # noqa: A002
    passages: Passages = None,
    decontaminate: Evaluations = None,
    device: Device = "cpu",
) -> None:
    """Make a datastore: fit it on licensed text, then add documents. It appears whole or not at all."""
    from datastore.codecs import Codec
    from datastore.errors import DatastoreError
    from datastore.files import sync_folder
    from datastore.passages import PassageSettings
    from datastore.writer import Encoder, create
    from silo.corpora import read_documents
    from silo.fitted import Fitted, read_fitted
    from silo.fitting import Fit, fit, interleave
    from silo.lm import LanguageModel
    from silo.packaged import location
    from silo.passages import PassageEncoder

    if store.exists():
        raise DatastoreError(f"{store} exists. Add to it with `silo datastore add`, or name a new folder.")
    unfinished = store.with_name(f"{store.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    stored_as = Codec(codec, pca)
    lm = LanguageModel.load(model, device)
    passage_encoder = None if passages is None else PassageEncoder.load(passages, device)
    fitted: Fit | Fitted
    if licensed:
        print(f"fitting {lists} inverted lists on licensed text")
        fitted = fit(lm, interleave([read_documents(place) for place in licensed]), lists, stored_as)
    else:
        fitted = read_fitted(Path(location(model)), lm.fingerprint)
    encoder = Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size)
    made = create(
        unfinished,
        encoder,
        fitted.keys if isinstance(fitted, Fit) else fitted.space,
        fitted.documents,
        n_lists=lists,
        knn_temperature=fitted.knn_temperature,
        now=datetime.now(UTC),
        codec=stored_as,
        passages=PassageSettings() if passage_encoder is None else passage_encoder.settings(),
    )
    _add(made, lm, passage_encoder, documents, license, decontaminate or [])
    made.close()
    unfinished.rename(store)
    sync_folder(store.parent)


def add(
    store: Annotated[Path, typer.Argument(help="The datastore.")],
    documents: Documents,
    model: Model = DEFAULT,
    license: Annotated[str, typer.Option(help="License of documents that name none.")] = "",  # noqa: A002
    passages: Annotated[
        str | None, typer.Option(help="Where the store's passage encoder lies, if it has one and that has moved.")
    ] = None,
    decontaminate: Evaluations = None,
    device: Device = "cpu",
) -> None:
    """Add documents to a datastore; all of them or, on any error, none."""
    from datastore.errors import DatastoreError
    from datastore.store import Datastore
    from silo.generation import Silo
    from silo.lm import LanguageModel
    from silo.passages import PassageEncoder

    joined = Silo(LanguageModel.load(model, device), Datastore.open(store))
    assert joined.datastore is not None
    settings = joined.datastore.passage_settings
    if passages is not None and not settings.dimension:
        raise DatastoreError(f"{store} was built to keep no passage vectors; leave --passages out, or build it again.")
    passage_encoder = PassageEncoder.load_for(settings, passages, device) if settings.dimension else None
    _add(joined.datastore, joined.lm, passage_encoder, documents, license, decontaminate or [])


def generate(
    prompt: Annotated[str, typer.Argument(help="What the model is to continue.")],
    model: Model = DEFAULT,
    datastore: Annotated[Path | None, typer.Option(help="A datastore that the same LM wrote.")] = None,
    max_tokens: Annotated[int, typer.Option()] = 64,
    temperature: Annotated[float, typer.Option(help="Of sampling; 0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option()] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends the completion; may be repeated.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    k: Annotated[int, typer.Option(help="Neighbors per token.")] = 32,
    knn_weight: Annotated[
        float | None, typer.Option(help="Share of the neighbors; without any share the gate's, or 0.5.")
    ] = None,
    knn_temperature: Annotated[float | None, typer.Option(help="tau; without it the one fitted at build.")] = None,
    n_probe: Annotated[int, typer.Option(help="Inverted lists scanned per token.")] = 8,
    ngram_weight: Annotated[
        float | None, typer.Option(help="Share of what followed the same last tokens; without it set by the other.")
    ] = None,
    n_passages: Annotated[
        int, typer.Option("--passages", min=0, help="Passages that the LM reads first, each in a run of its own.")
    ] = 0,
    scorer: Annotated[str, typer.Option(help="How passages are found: bm25, dense or fused.")] = "bm25",
    max_verbatim: Annotated[
        int, typer.Option(min=0, help="Tokens in a row that may be copied from high-risk text; 0: no limit.")
    ] = 50,
    verbatim_allowance: Annotated[
        int, typer.Option(min=0, help="Tokens by which such a run may go on that the prompt has brought to that limit.")
    ] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write tokens, masses and sources here.")] = None,
    device: Device = "cpu",
) -> None:
    """Continue a prompt and say whose text the answer came from."""
    from silo.generation import Silo
    from silo.settings import GenerationSettings, KnnSettings, NgramSettings, RetrievalSettings

    settings = GenerationSettings(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=tuple(stop or ()),
        seed=seed,
        knn=KnnSettings(k=k, weight=knn_weight, temperature=knn_temperature, n_probe=n_probe),
        ngram=NgramSettings(weight=ngram_weight),
        retrieval=RetrievalSettings(n_passages, scorer) if n_passages else None,
        max_verbatim=max_verbatim or None,
        verbatim_allowance=verbatim_allowance,
    )
    joined = Silo.open(model, datastore, device)
    generation = joined.generate(prompt, settings)
    sys.stdout.write(prompt)
    for token in generation:
        sys.stdout.write(token.text)
        sys.stdout.flush()
    print("\n")
    print_sources(joined, generation)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(prompt, generation), ensure_ascii=False, indent=1), encoding="utf-8")


def pack(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that `silo train` wrote.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    licensed: Annotated[list[str], typer.Option(help="Licensed text to fit a datastore on; may be repeated.")],
    lists: Annotated[int, typer.Option(min=1, help="Inverted lists.")] = 512,
    codec: Annotated[str, typer.Option(help="Bytes of a stored key: fp16, sq8 or pq.")] = DEFAULT_CODEC,
    pca: Annotated[int, typer.Option(min=0, help="Dimensions that PCA leaves of a key; 0: all.")] = DEFAULT_PCA,
    gate: Annotated[Path | None, typer.Option(help="A gate that was fitted with what this makes.")] = None,
) -> None:
    """Make a checkpoint half as large, together with what a datastore for it needs fitted."""
    from datastore.codecs import Codec
    from silo.corpora import read_documents
    from silo.fitting import interleave
    from silo.packing import pack as pack_checkpoint

    texts = interleave([read_documents(place) for place in licensed])
    pack_checkpoint(checkpoint, out, texts, lists, Codec(codec, pca), gate)
    print(f"{out}: {sum(path.stat().st_size for path in out.rglob('*') if path.is_file()) / 1e6:.1f} MB")


def doctor() -> None:
    """Look at the installation and say how to mend what is wrong."""
    from silo.doctor import examine

    if not examine():
        raise typer.Exit(1)


def print_sources(joined: "Silo", generation: "Generation", most: int = 3) -> None:
    """Each generated sentence with its largest sources: mass, license, owner, document, and the source sentence."""
    from rich.console import Console
    from rich.markup import escape

    from datastore.errors import UnknownDocument

    console = Console(highlight=False)
    for sentence in generation.sentences():
        shown = " ".join(generation.text[sentence.start : sentence.end].split())
        console.print(f"[bold]“{escape(shown)}”[/bold]")
        for source in sentence.sources[:most]:
            try:
                assert joined.datastore is not None
                facts = joined.datastore.document(source.document).facts
                quoted = " ".join(joined.datastore.sentence_text(source.document, source.sentence).split())
                by = f"{facts.license or 'no license stated'}, {facts.owner or 'owner not stated'}"
            except UnknownDocument:
                quoted, by = "(removed since)", "-"
            name = f"{source.document} #{source.sentence}"
            console.print(f"  {source.mass:6.1%}  {escape(name)}  [dim]({escape(by)})[/dim]", soft_wrap=True)
            console.print(
                f"          [italic]{escape(quoted[:110])}{'…' if len(quoted) > 110 else ''}[/italic]", soft_wrap=True
            )
        if rest := sentence.sources[most:]:
            console.print(f"  {sum(s.mass for s in rest):6.1%}  {len(rest)} more sentences")
        if sentence.unnamed_mass >= 0.0005:
            console.print(f"  {sentence.unnamed_mass:6.1%}  frequent phrases, which stand in too many places to name")
        console.print(f"  {sentence.parametric_mass:6.1%}  the LM's own weights (licensed text)")
    if read := dict.fromkeys((source.document, source.sentences) for source in generation.context_sources):
        console.print("[bold]The LM had read[/bold], which no share accounts for:")
        for document, (first, stop) in read:
            console.print(f"  {escape(document)} #{first} to #{stop - 1}", soft_wrap=True)


def as_json(prompt: str, generation: "Generation") -> dict[str, object]:
    """The completion with every token's masses."""
    from dataclasses import asdict

    return {
        "prompt": prompt,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "datastore_epoch": generation.datastore_epoch,
        "tokens": [asdict(token) for token in generation.tokens],
        "sentences": [asdict(sentence) for sentence in generation.sentences()],
        "context_sources": [asdict(source) for source in generation.context_sources],
    }


def _add(
    store: "Datastore",
    lm: "LanguageModel",
    passage_encoder: "PassageEncoder | None",
    locations: list[str],
    license: str,  # noqa: A002
    evaluations: list[str],
) -> None:
    """Encode and add everything at ``locations`` that repeats none of ``evaluations``, with a progress line."""
    from datastore.suppression import barred
    from datastore.writer import add as add_documents
    from silo.corpora import read_documents
    from silo.encoding import encode_document, facts_of, with_passage_vectors
    from silo.overlap import contaminated, read_evaluations
    from silo.preferences import preference

    max_tokens = store.passage_settings.max_tokens
    held_apart = list(read_evaluations(evaluations))
    refused: list[tuple[str, str]] = []

    def encoded() -> Iterator["EncodedDocument"]:
        for document in _shown(d for location in locations for d in read_documents(location, license=license)):
            said = preference(document)
            if not said.allowed:
                refused.append((document.id, said.reason))
            elif reason := barred(store.catalog, facts_of(document), document.text):  # before it costs a pass of the LM
                refused.append((document.id, reason))
            elif leak := contaminated(document.text, held_apart):
                refused.append((document.id, str(leak)))
            else:
                made = encode_document(lm, document)
                yield made if passage_encoder is None else with_passage_vectors(made, passage_encoder, max_tokens)

    added = add_documents(store, encoded())
    print(f"added {added.n_documents:,} documents, {added.n_entries:,} entries; epoch {store.epoch}")
    for name, reason in [*refused, *added.refused]:
        print(f"refused {name}: {reason}")


def _shown(documents: Iterable["Document"]) -> Iterator["Document"]:
    """Pass ``documents`` on while a line tells how far it has come."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("encoding")
        n_bytes = 0
        for n, document in enumerate(documents, start=1):
            yield document
            n_bytes += len(document.text.encode("utf-8"))
            elapsed = progress.tasks[0].elapsed or 1e-9
            speed = n_bytes / 1e3 / elapsed
            progress.update(task, description=f"{n:,} documents, {n_bytes / 1e6:.1f} MB, {speed:,.0f} kB/s")
