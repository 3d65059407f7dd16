from silo.reporting.runs import read_run
from silo.reporting.sections import section


def attacked(mixture, attack, limit, most):
    runs = {name: {"most": most + i} for i, name in enumerate(("run_in_tokens", "run_as_spelled", "run_in_letters"))}
    shares = {"share_reproduced": 0.125, "share_reproduced_interval": [0.1, 0.15], "most_reproduced": 0.5}
    shares |= {"share_over": 0.25, "share_over_as_spelled": 0.75, "n_attempts": 4}
    return {"mixture": mixture, "attack": attack, "max_verbatim": limit} | runs | shares


def made(mixture, value, **others):
    names = [f"rep_{n}" for n in (2, 3, 4)] + [f"distinct_{n}" for n in (1, 2, 3)]
    figures = dict.fromkeys(names, value) | {f"{name}_interval": [value - 0.1, value + 0.1] for name in names}
    return {"mixture": mixture, "n_prompts": 9, "n_tokens": 1234, "n_ended": 2} | figures | others


def test_attacks_stand_under_their_mixture_with_the_guard_and_without(record_run):
    rows = [attacked(name, "prefix", limit, 40) for name in ("lm", "knn") for limit in (None, 50)]
    found = section(read_run(record_run("eval extraction", rows)))
    assert [table.title for table in found.tables] == [f"Stored text that came out: {name}" for name in ("lm", "knn")]
    free, guarded = found.tables[1].rows
    assert [cell.text for cell in free] == ["prefix", "no", "40", "41", "42", "12.5 %", "25.0 %", "75.0 %"]
    assert free[5].interval == "10.0 to 15.0" and guarded[1].text == "50\u00a0tokens"


def test_mixtures_stand_side_by_side_and_likeness_where_it_was_measured(record_run):
    rows = [made("lm", 0.25), made("human, later", 0.5)]
    (table,) = section(read_run(record_run("eval generation", rows))).tables
    lines = {row[0].text: row for row in table.rows}
    assert table.columns == ("figure", "lm", "human, later") and "likeness" not in lines
    assert (lines["rep-4"][1].text, lines["rep-4"][2].interval) == ("0.250", "0.400 to 0.600")
    assert lines["tokens"][1].text == "1,234"
    rows = [row | {"likeness": 0.75, "likeness_interval": [0.5, 0.9]} for row in rows]
    (table,) = section(read_run(record_run("eval generation", rows, "with"))).tables
    assert {row[0].text: row for row in table.rows}["likeness"][1].interval == "0.500 to 0.900"


def test_what_came_out_and_what_was_made_are_drawn_with_their_intervals(record_run):
    rows = [attacked("lm", attack, limit, 40) for limit in (None, 50) for attack in ("prefix", "middle")]
    plot = section(read_run(record_run("eval extraction", rows))).blocks[-1]
    assert plot.labels == ("prefix", "middle")
    assert [one.name for one in plot.series] == ["lm, no guard", "lm, guard"]
    assert plot.series[0].x == (12.5, 12.5) and plot.series[1].low == (10.0, 10.0)
    plot = section(read_run(record_run("eval generation", [made("lm", 0.25), made("human, later", 0.5)]))).blocks[-1]
    assert plot.labels[0] == "rep-2" and plot.series[1].x == (0.5,) * 6 and plot.series[1].high == (0.6,) * 6
