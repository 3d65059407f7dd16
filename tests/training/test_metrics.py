import math

from training.loop import Progress
from training.metrics import Metrics, read_metrics


def at(step, n_steps=40, **facts):
    return Progress(step, step / n_steps, loss=5 - step / 10, tokens_per_second=100.0, seconds_left=1.0, **facts)


def steps_in(path):
    return [row["step"] for row in read_metrics(path)]


def test_every_tenth_step_each_validation_and_the_last_are_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, tokens_per_step=8)
    for step in range(1, 34):
        metrics(at(step, n_steps=33, rate=0.5, validation_loss=4.5 if step == 15 else None))
    assert steps_in(path) == [10, 15, 20, 30, 33]
    assert read_metrics(path)[1] == {
        "step": 15,
        "tokens": 120,
        "loss": 3.5,
        "learning_rate": 0.5,
        "tokens_per_second": 100.0,
        "validation_loss": 4.5,
    }


def test_a_resumed_run_has_each_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = Metrics(path, 8, every=2)
    for step in range(1, 11):
        first(at(step))
    second = Metrics(path, 8, every=2)
    for step in range(5, 13):
        second(at(step))
    assert steps_in(path) == [2, 4, 6, 8, 10, 12]


def test_a_line_that_a_kill_tore_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, 8, every=1)
    for step in range(1, 4):
        metrics(at(step))
    path.write_bytes(path.read_bytes()[:-5])
    assert steps_in(path) == [1, 2]
    Metrics(path, 8, every=1)(at(3))
    assert steps_in(path) == [1, 2, 3]


def test_what_is_not_known_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    Metrics(path, 8, every=1)(at(1, rate=math.nan))
    assert set(read_metrics(path)[0]) == {"step", "tokens", "loss", "tokens_per_second"}
