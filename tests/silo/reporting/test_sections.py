import json

import pytest

from silo.reporting.blocks import QUANTILES, Plot, Table, words
from silo.reporting.generic import generic_tables, shown
from silo.reporting.removals import STAGES
from silo.reporting.runs import read_run, read_runs
from silo.reporting.sections import report, section


def texts(tables):
    return {cell.text for table in tables for row in table.rows for cell in row}


def cells(table):
    """By the name of the row and of the column."""
    return {(row[0].text, name): cell for row in table.rows for name, cell in zip(table.columns, row, strict=True)}


def named(shown_section, title):
    return next(table for table in shown_section.tables if table.title == title)


def test_predictors_stand_side_by_side_with_intervals_and_the_best_is_marked(record_run):
    found = section(read_run(record_run("eval ppl")))
    bits = cells(named(found, "Bits per byte by domain"))
    assert (bits["mail", "lm"].text, bits["mail", "knn"].text) == ("1.500", "1.377")
    assert bits["mail", "knn"].interval == "1.327 to 1.427"
    assert (bits["mail", "lm"].is_best, bits["mail", "knn"].is_best) == (False, True)
    assert bits["mean over 2 domains", "knn"].text == "1.252"
    gain = cells(named(found, "Gain over the LM, nats per token"))
    assert (gain["news", "knn"].text, gain["news", "knn"].interval) == ("+0.250", "0.125 to 0.375")
    assert cells(named(found, "What was tuned"))["mail", "shares, the LM's first"].text == "0.75, 0.25"
    assert [block.title for block in found.blocks if isinstance(block, Plot)] == ["Bits per byte by domain"]


def test_models_are_columns_where_there_are_several_and_one_that_lacks_a_domain_has_no_mean(record_run):
    rows = [{"domain": d, "model": m, "bits_per_byte": 1.0, "nats_per_token": 2.0} for d, m in ("ax", "bx", "ay")]
    bits = named(section(read_run(record_run("eval ppl", rows))), "Bits per byte by domain")
    assert bits.columns == ("domain", "x", "y")
    assert cells(bits)["b", "y"].text == "–"
    assert (cells(bits)["mean over 2 domains", "x"].text, cells(bits)["mean over 2 domains", "y"].text) == (
        "1.000",
        "–",
    )


def test_an_lm_that_is_measured_alone_is_called_by_its_name(record_run):
    rows = [{"domain": d, "model": "silo-6m", "predictor": "lm", "bits_per_byte": 1.0} for d in "ab"]
    bits = named(section(read_run(record_run("eval ppl", rows))), "Bits per byte by domain")
    assert bits.columns == ("domain", "silo-6m") and "bold" not in bits.note


def test_several_scaling_curves_are_drawn_together_before_each_alone(record_run, rows_of):
    runs = [read_run(record_run("eval scaling", name=f"scaling-{name}")) for name in ("mail", "news")]
    titles = [one.title for one in report(runs).sections]
    assert titles == [
        f"How the datastore's size matters: {name}" for name in ("all runs", "scaling-mail", "scaling-news")
    ]
    together = report(runs).sections[0]
    table, plot = together.blocks
    assert [cell.text for cell in table.rows[0]] == ["mail", "100", "10,000", "3.800", "3.000", "−0.1204"]
    assert table.rows[0][-1].interval == "−0.1500 to −0.0903"
    assert [one.name for one in plot.series] == ["mail", "news"] and plot.series[1].x == (100, 1000, 10000)
    other = read_run(record_run("eval scaling", [{"n_entries": 3}], name="scaling-other"))
    assert len(report([runs[0], other]).sections) == 2, "what is not as it should be is shown alone, as it is"


def test_one_document_has_no_interval(record_run):
    rows = [{"domain": "a", "bits_per_byte": 1.0, "bits_per_byte_interval": [1.0, 1.0], "n_documents": 1}]
    bits = named(section(read_run(record_run("eval ppl", rows))), "Bits per byte by domain")
    assert bits.rows[0][1].interval == ""


def test_a_gap_has_its_three_means_and_says_where_there_is_none(record_run):
    found = section(read_run(record_run("eval gap")))
    gap = cells(found.tables[0])
    assert gap["mail", "closed"].text == "0.80" and gap["news", "closed"].text == "no gap"
    assert gap["mean over domains, capped at 1", "capped at 1"].text == "0.90"
    assert gap["of averaged perplexities, as in Min et al. (2023)", "closed"].text == "0.85"
    assert "+0.123 nats per token" in found.tables[0].note
    plot = found.blocks[1]
    assert plot.series[0].x == (0.8,), "a domain without a gap has no point"


def test_scaling_has_its_slope_and_marks_what_was_not_measured(record_run):
    found = section(read_run(record_run("eval scaling")))
    note = found.tables[0].note
    assert cells(found.tables[0])["10,000", "store bytes"].text == "700,000"
    assert "−0.1204 nats per token, 95 % from −0.1500 to −0.0903" in note
    assert "Extrapolated, not measured: 2.601 nats per token at 100,000 entries" in note
    plot = found.blocks[1]
    assert plot.is_log_x and [one.style for one in plot.series] == ["points", "line", "extrapolated"]
    assert plot.series[2].x == (10000.0, 100000.0)


def test_gaps_of_the_quality_run_stand_beside_the_figures_of_the_reference(record_run):
    means = {"mean_capped": 0.7, "mean_uncapped": 0.6, "by_mean_perplexity": 0.5, "mean_nats_ahead": -0.2}
    gaps = {"gate": means | {"domains": {"mail": {"closed": 0.71, "nats_ahead": -0.3}}}}
    rows = [{"domain": "mail", "bits_per_byte": 1.0, "nats_per_token": 2.0, "predictor": "lm"}, {"gaps": gaps}]
    found = section(read_run(record_run("quality", rows, config={"reference": "all", "lm": "f" * 64})))
    assert {"0.71", "−0.300", "0.70", "0.50"} <= texts([named(found, "Gap to all")])
    assert named(found, "Bits per byte by domain").rows[0][1].text == "1.000"


def test_variants_come_best_first_and_curves_end_where_training_came_to(tmp_path):
    variants = [{"variant": name, "validation_bits_per_byte": bits} for name, bits in (("a", 2.5), ("b", 2.25))]
    (tmp_path / "ablation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in variants))
    steps = [{"step": n, "tokens": n * 100, "loss": 9.0 - n} for n in (1, 2, 3)]
    steps[1]["validation_loss"] = 7.125
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    ablation, training = report(*read_runs([tmp_path])).sections
    assert [row[0].text for row in ablation.tables[0].rows] == ["b", "a"]
    assert {"3", "300", "6.000", "7.125"} <= texts(training.tables)
    assert [(one.name, len(one.x)) for one in training.blocks[1].series] == [("training", 3), ("validation", 1)]


def test_a_kind_that_nobody_described_is_shown_whole(record_run):
    found = section(read_run(record_run("eval moon")))
    assert found.title == "silo eval moon: eval-moon"
    assert texts(found.tables) == {"waxing", "0.4321", "1,234"}
    assert found.tables[0].columns == ("phase", "light", "craters.n")


def test_rows_that_a_kind_does_not_describe_are_shown_beside_those_that_it_does(record_run, rows_of):
    found = section(read_run(record_run("eval ppl", [*rows_of("eval ppl"), {"surprise": 0.777}])))
    assert "0.777" in texts(found.tables)
    assert named(found, "Bits per byte by domain")


def test_rows_that_are_not_as_their_command_writes_them_are_shown_as_they_are(record_run):
    found = section(read_run(record_run("eval gap", [{"reference": "all", "light": 0.4321}])))
    assert "0.4321" in texts(found.tables)
    assert "not as `silo eval gap` writes them (KeyError('predictor'))" in found.note


def test_how_a_run_was_made_is_there_and_so_is_what_was_no_run(record_run, results):
    record_run("eval ppl", argv=["silo", "eval", "ppl", "a.jsonl"])
    (results / "note.txt").write_text("")
    found = report(*read_runs([results]))
    line = {cell.text for cell in found.runs.rows[0]}
    assert {"2026-11-24 12:00", "c0ffeec0ffee", "7"} <= line
    (name, table), *_ = found.configurations
    values = {row[0].text: row[1].text for row in table.rows}
    assert values["command"] == "silo eval ppl a.jsonl" and values["merge"] == "False"
    assert values["versions"] == "python 3.11.7" and values["commit"].startswith("c0ffee") and name.endswith(".json")
    assert found.unrecognized is not None and found.unrecognized.rows[0][0].text.endswith("note.txt")
    assert report([]).unrecognized is None


def test_sections_come_in_the_order_of_kinds_with_unknown_ones_last(record_run, results):
    for command in ("eval moon", "eval scaling", "eval gap", "eval ppl"):
        record_run(command)
    titles = [one.title.split(":")[0] for one in report(*read_runs([results])).sections]
    assert titles == [
        "How well text is predicted",
        "How much of the gap is closed",
        "How the datastore's size matters",
        "silo eval moon",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "yes"),
        (None, "–"),
        (-1234, "−1,234"),
        (0.123456, "0.1235"),
        ([0.25, 0.5], "0.250 to 0.500"),
        (["a", "b"], "a, b"),
        (list(range(100)), "100 values"),
        ("f" * 64, "ffffffffffff…"),
        ("w " * 50, "w " * 29 + "w…"),
    ],
)
def test_a_value_is_shown_for_people(value, expected):
    assert shown(value) == expected


def test_a_table_with_many_names_stands_on_its_side():
    rows = [{f"name_{i}": i + n for i in range(12)} for n in (0, 100)]
    [table] = generic_tables(rows)
    assert table.columns == ("figure", "row 1", "row 2")
    assert [cell.text for cell in table.rows[3]] == ["name 3", "3", "103"]
    assert len(generic_tables([{"a": 1}, {"b": 1}, {"a": 2}])) == 2


def test_a_row_must_fit_its_columns():
    with pytest.raises(ValueError, match="has 2 columns; a row has 1"):
        Table("t", ("a", "b"), (words(["one"]),))


def test_a_removal_is_told_by_what_it_took_away_and_what_is_left(record_run):
    figures = {"nats_per_token": 2.0, "nats_per_token_interval": [1.9, 2.1], "bits_per_byte": 1.0}
    figures |= {"perplexity_per_token": 7.389, "n_documents": 2}
    worth = {"nats_per_token": 0.125, "interval": [0.1, 0.15]}
    left_out = {"experiment": "leave out", "series": "s", "n_documents": 9, "n_held_out": 2, "lm": figures}
    left_out |= {
        "curve": [figures | {"n_left": 8}, figures | {"n_left": 0}],
        "worth_of_the_others": worth,
        "lost": 0.25,
    }
    stages = {name: {"logprob": -1.5 - i, "n_live_run": i, "n_reproduced": 7} for i, name in enumerate(STAGES)}
    probes = [
        {"experiment": "probe", "form": "verbatim", "document": name, "is_as_never": name == "a"}
        | {"largest_deviation_from_never": 0.5 * (name == "b")}
        | stages
        for name in "ab"
    ]
    quantiles = {"least": 1.0, "median": 2.25, "most": 3.0, "p90": 2.5, "p99": 2.75}
    latency = {"experiment": "latency", "compaction_ms": 41.5, "sequential_ms": [1.0] * 5, "bulk_ms": [1.0]}
    latency |= {"sequential_ms_quantiles": quantiles, "bulk_ms_quantiles": quantiles}
    erasure = {"experiment": "erasure", "n_live_entries_left": 0, "are_files_equal": True, "is_as_never": False}
    utility = {"experiment": "utility", "before": figures, "after": figures, "worth_of_what_was_removed": worth}
    rows = [left_out, *probes, latency, erasure | {"largest_deviation_from_never": 0.5}, utility]
    found = section(read_run(record_run("eval optout", [*rows, {"experiment": "moon", "light": 0.777}])))
    series = named(found, "Series 's', left out")
    assert [row[0].text for row in series.rows] == ["8 others stored", "0 others stored", "LM alone"]
    assert "+0.125 nats per token, 95 % from +0.100 to +0.150; with them goes 25 %" in series.note
    asked = named(found, "Log-probability of a removed text, nats per token, mean")
    assert cells(asked)["verbatim", "stored"].text == "−2.500"
    assert "1 of 2 probes as in a store that never had the text; largest deviation 0.5" in asked.note
    assert cells(named(found, "Milliseconds to an opt-out in force"))["sequential", "median"].text == "2.2"
    assert [cell.text for cell in named(found, "What is left").rows[0]] == ["0", "yes", "no", "0.5"]
    assert "0.777" in texts(found.tables), "an experiment that nobody described is shown as it is"


def test_a_list_of_objects_is_a_table_of_its_own_called_by_its_row():
    row = {"kind": "leave out", "n": 2, "held": [{"name": "a", "nats": 1.5}, {"name": "b", "nats": 2.5}]}
    outer, inner = generic_tables([row])
    assert (outer.title, inner.title) == ("leave out", "leave out, held")
    assert [cell.text for cell in outer.rows[0]] == ["leave out", "2", "2 below"]
    assert [[cell.text for cell in one] for one in inner.rows] == [["a", "1.5"], ["b", "2.5"]]
    assert inner.is_detail and not outer.is_detail


def test_credit_is_told_by_masses_falls_planted_facts_and_a_search(record_run):
    masses = {"mean_parametric": 0.4, "mean_named": 0.5, "mean_unnamed": 0.1, "largest_deviation": 2e-16, "n_tokens": 8}
    falls = {name: dict.fromkeys(QUANTILES, 0.0182) for name in ("cited_fall", "held_fall", "served_less_cited")}
    falls |= {"served_fall": dict.fromkeys(QUANTILES, -0.5), "heard_not_cited_served_fall": {}}
    counts = {"n_removed": 1, "n_tokens": 8, "n_cited": 3, "n_not_heard": 6, "not_heard_n_changed": 0}
    counts |= {"held_largest_deviation": 7e-18, "not_heard_largest_change": 0.0}
    planted = {"n_facts": 32, "n_whole": 30, "precision": 0.9375, "baseline_precision": 0.5, "n_whole_after_removal": 0}
    agreement = {"n_sentences": 9, "first": 0.25, "among_ranked": 0.75, "same_document": None}
    rows = [
        {"check": "masses"} | masses,
        {"check": "counterfactual"} | falls | counts,
        {"check": "planted facts", "mean_mass_of_planted": 0.875} | planted,
        {"check": "agreement with BM25", "mean_mass_of_first_source": 0.458} | agreement,
        {"check": "moon", "light": 0.777},
    ]
    found = section(read_run(record_run("eval attribution", rows)))
    mass, fall, facts, search = found.tables[:4]
    assert [cell.text for cell in mass.rows[0]] == ["8", "40.0 %", "50.0 %", "10.0 %", "2.0e−16"]
    assert cells(fall)["fall as served", "median"].text == "−5.00e−01"
    assert {cell.text for cell in fall.rows[-1][1:]} == {"–"}
    assert "of 8 tokens they were credited in 3" in fall.note and "Of 6 tokens" in fall.note
    assert cells(facts)["tokens that owe most to the planted sentence", "figure"].text == "93.8 %"
    assert cells(search)["BM25 names the same document first", "figure"].text == "–"
    assert "0.777" in texts(found.tables)
