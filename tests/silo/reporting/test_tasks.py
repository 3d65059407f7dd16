import pytest

from silo.reporting.blocks import Plot
from silo.reporting.runs import read_run
from silo.reporting.sections import section


def answered(task, predictor, accuracy, group="", rule="probability", **others):
    interval = [accuracy - 0.125, accuracy + 0.125]
    facts = {"model": "m", "task": task, "predictor": predictor, "group": group, "rule": rule}
    return facts | {"n_items": 1200, "accuracy": accuracy, "interval": interval, "chance": 0.25} | others


@pytest.fixture
def rows():
    lead = {"lead_over_lm": {"accuracy": -0.0625, "interval": [-0.1, 0.0]}}
    return [
        answered("cloze", "lm", 0.5),
        answered("cloze", "lm", 0.25, group="mail"),
        answered("cloze", "lm", 0.75, group="news"),
        answered("cloze", "lm", 1.0, group="rare", n_items=2),
        answered("cloze", "knn", 0.4375, **lead),
        answered("exercises", "lm", 0.375, rule="per byte"),
        {"moon": "waxing", "light": 0.777},
    ]


def test_predictors_stand_side_by_side_with_chance_and_their_lead(record_run, rows):
    found = section(read_run(record_run("eval tasks", rows)))
    right, lead, groups, other = found.tables
    assert right.columns == ("task", "items", "by chance", "lm", "knn")
    assert [cell.text for cell in right.rows[0]] == ["cloze (probability)", "1,200", "0.250", "0.500", "0.438"]
    assert right.rows[0][3].interval == "0.375 to 0.625"
    assert [cell.text for cell in right.rows[1]] == ["exercises (per byte)", "1,200", "0.250", "0.375", "–"]
    assert (lead.rows[0][-1].text, lead.rows[0][-1].interval) == ("−0.062", "−0.100 to +0.000")
    assert [row[0].text for row in groups.rows] == ["cloze, mail (probability)", "cloze, news (probability)"]
    assert groups.is_detail and not right.is_detail
    assert "0.777" in {cell.text for row in other.rows for cell in row}


def test_accuracies_are_drawn_beside_chance(record_run, rows):
    [plot] = [block for block in section(read_run(record_run("eval tasks", rows))).blocks if isinstance(block, Plot)]
    assert plot.labels == ("cloze (probability)", "exercises (per byte)")
    assert [one.name for one in plot.series] == ["lm", "knn", "by chance"]
    assert plot.series[0].x == (0.5, 0.375) and plot.series[0].y == (0.0, 1.0) and plot.series[1].y == (0.0,)
    assert plot.series[2].x == (0.25, 0.25)


def test_tasks_come_after_attribution_and_before_extraction():
    from silo.reporting.sections import BLOCKS, TITLES

    order = ["eval ppl", "eval gap", "eval scaling", "eval optout", "eval attribution", "eval tasks"]
    assert list(BLOCKS)[:8] == [*order, "eval extraction", "eval generation"]
    assert list(TITLES) == list(BLOCKS)
