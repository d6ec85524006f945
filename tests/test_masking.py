"""Masks that are drawn in training: whole units, the right shares, a function of the seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bert_tf.data.masking import draw_masks

LENGTH, MASK, WORDS = 40, 4, 1000


def rows_of(lengths, unit_size=1, seed=0):
    rng = np.random.default_rng(seed)
    mask = (np.arange(LENGTH) < np.array(lengths)[:, None]).astype(np.int32)
    units = (np.arange(LENGTH) // unit_size + 1).astype(np.int32) * mask
    units[:, 0] = 0  # [CLS]
    ids = rng.integers(5, WORDS, mask.shape).astype(np.int32) * mask
    return {"input_ids": ids, "input_mask": mask, "masking_units": units}


def draw(rows, seeds, prob=0.15, most=20):
    return draw_masks(
        rows,
        np.asarray(seeds),
        vocab_size=WORDS,
        mask_id=MASK,
        masked_lm_prob=prob,
        max_predictions_per_seq=most,
    )


@given(
    lengths=st.lists(st.integers(2, LENGTH), min_size=1, max_size=6),
    unit_size=st.integers(1, 5),
    most=st.integers(1, 20),
    prob=st.floats(0.01, 0.9),
)
def test_what_is_masked(lengths, unit_size, most, prob):
    rows = rows_of(lengths, unit_size)
    before = rows["input_ids"].copy()
    masked = draw(rows, [[1, 0, i] for i in range(len(lengths))], prob, most)
    np.testing.assert_array_equal(rows["input_ids"], before)  # the rows are the caller's
    for i, length in enumerate(lengths):
        real = masked["masked_lm_weights"][i] > 0
        places = masked["masked_lm_positions"][i][real]
        assert (np.diff(places) > 0).all() and (places >= 1).all() and (places < length).all()
        assert len(places) <= min(most, max(1, round(length * prob)))
        np.testing.assert_array_equal(masked["masked_lm_ids"][i][real], before[i, places])
        rest = np.setdiff1d(np.arange(LENGTH), places)
        np.testing.assert_array_equal(masked["input_ids"][i, rest], before[i, rest])
        units = rows["masking_units"][i]
        for unit in set(units[places]):  # all of a unit or nothing
            assert set(np.flatnonzero(units == unit)) <= set(places)
    if unit_size == 1:  # then nothing is passed over
        wanted = [min(most, max(1, round(n * prob)), n - 1) for n in lengths]
        assert masked["masked_lm_weights"].sum(axis=1).tolist() == wanted


def test_shares_are_googles():
    rows = rows_of([LENGTH] * 2000)
    masked = draw(rows, np.stack([np.zeros(2000, int), np.arange(2000)], axis=1))
    assert (masked["masked_lm_weights"].sum(axis=1) == 6).all()
    places = masked["masked_lm_positions"][:, :6]
    now = np.take_along_axis(masked["input_ids"], places, axis=1)
    labels = masked["masked_lm_ids"][:, :6]
    shares = [(now == MASK).mean(), (now == labels).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=0.01)
    counts = np.bincount(places.ravel(), minlength=LENGTH)[1:]
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.25)  # every place alike


def test_a_mask_is_a_function_of_its_seeds():
    rows = rows_of([30, 30, 30])
    first = draw(rows, [[7, 0, 1], [7, 0, 2], [7, 1, 1]])
    again = draw({n: x[1:2] for n, x in rows.items()}, [[7, 0, 2]])
    np.testing.assert_array_equal(again["masked_lm_positions"][0], first["masked_lm_positions"][1])
    places = [tuple(row) for row in first["masked_lm_positions"]]
    assert len(set(places)) == 3
