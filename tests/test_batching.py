"""Which rows make a batch, and how far it is padded."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bert_tf import batching


@given(
    step=st.integers(0, 50),
    batch=st.integers(1, 40),
    rows=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_every_epoch_visits_every_row_once(step, batch, rows, seed):
    steps = [batching.training_rows(i, batch, rows, seed) for i in range(step + 1)]
    stream, epochs = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    whole = len(stream) // rows * rows
    for epoch in stream[:whole].reshape(-1, rows):
        assert sorted(epoch) == list(range(rows))
    assert (epochs == np.arange(len(stream)) // rows).all()
    assert (batching.training_rows(step, batch, rows, seed)[0] == stream[-batch:]).all()


def test_epochs_differ_and_seeds_differ():
    orders = [batching.training_rows(epoch, 100, 100, 1)[0] for epoch in range(3)]
    assert not (orders[0] == orders[1]).all()
    assert not (orders[0] == batching.training_rows(0, 100, 100, 2)[0]).all()


@given(length=st.integers(3, 200), longest=st.integers(1, 200))
def test_trimming_keeps_every_token_and_few_shapes(length, longest):
    longest = min(longest, length)
    mask = np.zeros((2, length), np.int32)
    mask[0, :longest] = 1
    batch = {"input_ids": mask * 7, "input_mask": mask, "label_ids": np.zeros((2, 1), np.int32)}
    trimmed = batching.trim_padding(batch, length)
    width = trimmed["input_ids"].shape[1]
    assert longest <= width <= length
    assert width == length or width % -(-length // batching.NUM_BUCKETS) == 0
    assert trimmed["input_mask"].sum() == longest
    assert trimmed["label_ids"].shape == (2, 1)
