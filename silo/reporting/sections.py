"""A report from recorded runs: which sections there are, how each run was made, and what was no run.

Pure; knows neither HTML nor Markdown. A run of a kind that is not in ``BLOCKS``, and rows that its kind does not
describe, become generic tables, so that nothing which was recorded is missing from the report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from silo.reporting.blocks import Cell, Plot, Section, Table, words
from silo.reporting.comparisons import (
    ablation_blocks,
    gap_blocks,
    quality_gap_blocks,
    scaling_blocks,
    scaling_together,
    training_blocks,
)
from silo.reporting.credit import credit_blocks
from silo.reporting.generated import extraction_blocks, generation_blocks
from silo.reporting.generic import generic_tables, shown
from silo.reporting.predictors import perplexity_blocks, short
from silo.reporting.removals import removal_blocks
from silo.reporting.runs import (
    ABLATION,
    ATTRIBUTION,
    EXTRACTION,
    FACTS,
    GAP,
    GENERATION,
    OPTOUT,
    PERPLEXITY,
    SCALING,
    TASKS,
    TRAINING,
    Row,
    Run,
    Unrecognized,
    leaves,
)
from silo.reporting.tasks import task_blocks

Blocks = tuple[Table | Plot, ...]
BLOCKS: dict[str, Callable[[Run], Blocks]] = {
    PERPLEXITY: lambda run: (*perplexity_blocks(run), *quality_gap_blocks(run)),
    GAP: gap_blocks,
    SCALING: scaling_blocks,
    OPTOUT: removal_blocks,
    ATTRIBUTION: credit_blocks,
    TASKS: task_blocks,
    EXTRACTION: extraction_blocks,
    GENERATION: generation_blocks,
    ABLATION: ablation_blocks,
    TRAINING: training_blocks,
}
"""By kind of run, in the order of the report."""
_DESCRIBED: dict[str, tuple[frozenset[str], ...]] = {
    PERPLEXITY: (frozenset({"domain", "bits_per_byte"}), frozenset({"gaps"})),
    GAP: (frozenset({"reference", "domains"}),),
    SCALING: (frozenset({"n_entries"}), frozenset({"slope"})),
    OPTOUT: (
        frozenset({"curve", "worth_of_the_others"}),
        frozenset({"form", "never"}),
        frozenset({"compaction_ms"}),
        frozenset({"are_files_equal"}),
        frozenset({"worth_of_what_was_removed"}),
    ),
    ATTRIBUTION: tuple(
        frozenset({name}) for name in ("mean_parametric", "held_fall", "mean_mass_of_planted", "among_ranked")
    ),
    TASKS: (frozenset({"task", "accuracy"}),),
}
"""Names of which a row has all of one set, where its kind describes it; without an entry, every row."""
TITLES = {
    PERPLEXITY: "How well text is predicted",
    GAP: "How much of the gap is closed",
    SCALING: "How the datastore's size matters",
    OPTOUT: "What an opt-out takes away",
    ATTRIBUTION: "Whether credit is due",
    TASKS: "Whether it helps to answer",
    EXTRACTION: "What can be extracted",
    GENERATION: "What free generation is like",
    ABLATION: "Ablation",
    TRAINING: "Training",
}
_PROTOCOL = {
    PERPLEXITY: (
        "Each document is scored alone, in overlapping windows that never reach into another one, its end "
        "included; the figures are ratios of sums over a domain's documents."
    ),
    GAP: (
        "A gap is in nats per token, between the licensed LM and a reference that was trained on the text itself, on "
        "the same documents with the same tokenizer."
    ),
    SCALING: (
        "The whole store is searched once; smaller stores are nested parts of it by whole documents, in the order of "
        "their digests. k, temperature and share are tuned on validation text for each size."
    ),
    OPTOUT: (
        "Documents of a series are taken out of a copy of the store while one of them is predicted; then stored texts "
        "are removed and asked for, verbatim and reworded, beside a store that never had them."
    ),
    ATTRIBUTION: (
        "A token's masses are the terms of the mixture that predicted it. Sources that are credited are taken out of a "
        "copy of the store, with all else held and as it is served; facts are planted in a copy, asked for and removed."
    ),
    TASKS: (
        "Each item has one right answer among several: exercises whose wrong answers are near misses, last words of "
        "sentences of held-out text, and which domain a passage is from. Nothing is tuned; shares are as served."
    ),
    EXTRACTION: (
        "Each attack asks for stored high-risk documents, which the seed draws, with the copy guard and without; what "
        "comes is compared with the document that was asked for, in tokens and in letters."
    ),
    GENERATION: (
        "A held-out document's first tokens are the prompt, the next ones what people wrote; the text after these is "
        "the last column. All mixtures get the same prompts and seeds."
    ),
    ABLATION: "Each variant gets as many tokens as the compute of the base allows; validation text decides.",
    TRAINING: "The loss is that of the training batches; validation text, where there is some, trained nothing.",
}


@dataclass(frozen=True)
class Report:
    """All that is shown."""

    sections: tuple[Section, ...]
    protocol: tuple[str, ...]
    runs: Table
    """How each run was made."""
    configurations: tuple[tuple[str, Table], ...]
    """By run, everything that it says of its configuration and versions."""
    unrecognized: Table | None


def report(runs: Sequence[Run], unrecognized: Sequence[Unrecognized] = ()) -> Report:
    """What ``runs`` say, by kind in the order of ``BLOCKS``, then kinds that are not known."""
    order = [*BLOCKS, *sorted({run.kind for run in runs} - set(BLOCKS))]
    ordered = [run for kind in order for run in runs if run.kind == kind]
    others = [words((one.name, one.reason)) for one in unrecognized]
    sections = list(map(section, ordered))
    curves = [run for run in ordered if run.kind == SCALING]
    if len(curves) > 1 and (blocks := _side_by_side(curves)):
        at = ordered.index(curves[0])
        sections.insert(at, Section(f"{TITLES[SCALING]}: all runs", ", ".join(run.name for run in curves), blocks))
    return Report(
        tuple(sections),
        tuple(_PROTOCOL[kind] for kind in order if kind in _PROTOCOL and any(run.kind == kind for run in runs)),
        _runs_table(ordered),
        tuple((run.name, _configuration(run)) for run in ordered),
        Table("Files that are no recorded run", ("file", "reason"), tuple(others)) if others else None,
    )


def section(run: Run) -> Section:
    """What one run says. Rows that its kind does not describe, or describes with other facts, are shown as they are."""
    name = PurePosixPath(run.name)
    title = TITLES.get(run.kind) or (f"silo {run.kind}" if run.kind else "Figures of no known kind")
    note = f"This run does not state its {', '.join(run.missing)}." if run.missing else ""
    try:
        blocks = BLOCKS[run.kind](run) if run.kind in BLOCKS else ()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        blocks, note = (), f"{note} Its rows are not as `silo {run.kind}` writes them ({error!r}).".strip()
    rest = [row for row in run.rows if not blocks or not _is_described(run.kind, row)]
    return Section(f"{title}: {_named(name)}", run.name, (*blocks, *generic_tables(rest)), note)


def _side_by_side(curves: Sequence[Run]) -> Blocks:
    """Nothing where a run is not as `silo eval scaling` writes it: its own section says so."""
    try:
        return scaling_together(curves)
    except (KeyError, TypeError, ValueError, IndexError):
        return ()


def command(run: Run) -> str:
    """What was typed, where the run says so; else the command and its configuration's name."""
    return " ".join(run.facts["argv"]) if "argv" in run.facts else f"silo {run.kind}" if run.config else "not recorded"


def _is_described(kind: str, row: Row) -> bool:
    return kind not in _DESCRIBED or any(names <= set(row) for names in _DESCRIBED[kind])


def _named(path: PurePosixPath) -> str:
    """A checkpoint's metrics are known by their folder."""
    return path.parent.name or path.stem if path.stem == "metrics" else path.stem


def _runs_table(runs: Sequence[Run]) -> Table:
    lines = []
    for run in runs:
        facts = [str(run.facts.get(name, "not recorded")) for name in ("date", "commit", "seed")]
        if run.kind == ABLATION:
            facts = ["by row" if shown == "not recorded" else shown for shown in facts]
        date, commit, seed = facts
        commit = commit[:12] + "+" * commit.endswith("+") if commit not in ("not recorded", "by row") else commit
        lines.append((Cell(run.name), *words((short(run.digest), date[:16].replace("T", " "), commit, seed))))
    note = "SHA-256 of the file. A plus after a commit: files differed from it."
    return Table("Recorded runs", ("file", "SHA-256", "date, UTC", "commit", "seed"), tuple(lines), note)


def _configuration(run: Run) -> Table:
    lines = [words(("command", command(run)))] if run.kind != TRAINING else []
    stated = {name: run.facts[name] for name in FACTS if name in run.facts and name != "argv"}
    lines += [words((name, _value(value))) for name, value in {**run.config, **stated}.items() if name != "command"]
    lines.append(words(("SHA-256 of the file", run.digest)))
    return Table(run.name, ("what", "value"), tuple(lines), is_detail=True)


def _value(value: object) -> str:
    """Whole, for whoever repeats it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in leaves(value))
    return " ".join(map(str, value)) if isinstance(value, list) else shown(value) if value is None else str(value)
