import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.batches import Batches, document_positions, validation_windows
from training.errors import NothingAdmitted

SHAPES = st.tuples(st.integers(2, 200), st.integers(1, 16), st.integers(1, 5)).filter(lambda s: s[0] > s[1])


@given(SHAPES, st.integers(0, 50), st.integers(0, 1 << 40))
def test_a_batch_is_a_function_of_seed_and_step(shape, step, seed):
    n_tokens, context, size = shape
    tokens = np.arange(n_tokens, dtype=np.uint16)
    batch = Batches(tokens, context, size, seed).at(step)
    assert batch.shape == (size, context + 1)
    assert (batch == Batches(tokens, context, size, seed).at(step)).all()
    assert (np.diff(batch, axis=1) == 1).all()


@given(SHAPES, st.integers(0, 3))
def test_an_epoch_visits_each_window_once(shape, epoch):
    n_tokens, context, _ = shape
    batches = Batches(np.arange(n_tokens), context, 1, 7)
    steps = range(epoch * batches.n_windows, (epoch + 1) * batches.n_windows)
    starts = sorted(int(batches.at(step)[0, 0]) for step in steps)
    assert np.diff(starts).tolist() == [context] * (batches.n_windows - 1)


def test_epochs_and_seeds_differ_in_order_and_offset():
    tokens = np.arange(1000)
    one, other = Batches(tokens, 10, 98, 0), Batches(tokens, 10, 98, 1)
    assert not (one.at(0) == one.at(1)).all()
    assert not (one.at(0) == other.at(0)).all()


@pytest.mark.parametrize("n_tokens", [0, 1, 8])
def test_text_that_is_too_short_for_a_window_is_an_error(n_tokens):
    with pytest.raises(NothingAdmitted, match=rf"has {n_tokens} tokens; a window needs 9"):
        Batches(np.zeros(n_tokens, dtype=np.uint16), 8, 1, 0)


@given(SHAPES, st.integers(1, 20))
def test_validation_windows_do_not_overlap(shape, n_windows):
    n_tokens, context, _ = shape
    windows = validation_windows(np.arange(n_tokens), context, n_windows)
    assert len(windows) == min(n_windows, (n_tokens - 1) // context)
    targets = windows[:, 1:].ravel().tolist()
    assert len(set(targets)) == len(targets)


def test_held_out_text_that_is_too_short_gives_no_window():
    assert validation_windows(np.zeros(1, dtype=np.uint16), 8, 4).shape == (0, 9)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_positions_count_from_the_last_boundary(tokens):
    positions = document_positions(np.array([tokens]), boundary=0)[0].tolist()
    expected, since = [], 0
    for index, token in enumerate(tokens):
        since = 0 if token == 0 or index == 0 else since + 1
        expected.append(since)
    assert positions == expected
