"""Several texts in one row: every text whole, and nothing said of it changed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bert_tf.data import row_packing

LENGTH = 24


@given(lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=30))
def test_every_text_has_one_place_and_no_row_is_too_long(lengths):
    rows = row_packing.first_fit(np.array(lengths), LENGTH)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= LENGTH for row in rows)
    # No two rows could have been one.
    sums = sorted(sum(lengths[i] for i in row) for row in rows)
    assert len(sums) < 2 or sums[0] + sums[1] > LENGTH


def batch_of(lengths, seed=0, masks=3):
    rng = np.random.default_rng(seed)
    shape = len(lengths), LENGTH
    mask = (np.arange(LENGTH) < np.array(lengths)[:, None]).astype(np.int32)
    positions = np.stack([rng.permutation(LENGTH)[:masks] for _ in lengths])
    weights = (positions < np.array(lengths)[:, None]).astype(np.float32)
    return {
        "input_ids": rng.integers(1, 99, shape).astype(np.int32) * mask,
        "input_mask": mask,
        "segment_ids": rng.integers(0, 2, shape).astype(np.int32) * mask,
        "masked_lm_positions": (positions * weights).astype(np.int32),
        "masked_lm_ids": (rng.integers(1, 99, positions.shape) * weights).astype(np.int32),
        "masked_lm_weights": weights,
        "next_sentence_labels": rng.integers(0, 2, (len(lengths), 1)).astype(np.int32),
    }


def texts_of(packed):
    """Each text of the rows, with all that is said of it; sorted."""
    found = []
    for row in range(len(packed["input_ids"])):
        numbers = packed["input_mask"][row]
        for number in range(1, numbers.max() + 1):
            (places,) = np.nonzero(numbers == number)
            start = packed["cls_positions"][row, number - 1]
            assert (places == start + np.arange(len(places))).all()
            asked = [
                (int(position - start), int(word))
                for position, word, weight in zip(
                    *(packed[f"masked_lm_{name}"][row] for name in ("positions", "ids", "weights")),
                    strict=True,
                )
                if weight and position in places
            ]
            columns = (packed[n][row, places] for n in ("input_ids", "segment_ids", "position_ids"))
            label = int(packed["next_sentence_labels"][row, number - 1])
            found.append((*(tuple(column.tolist()) for column in columns), tuple(asked), label))
    return sorted(found)


@given(lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_packed_texts_are_those_of_the_batch(lengths, seed):
    batch = batch_of(lengths, seed)
    packed = row_packing.pack(batch)
    assert texts_of(packed) == texts_of(row_packing.one_text_a_row(batch))
    assert packed["masked_lm_weights"].sum() == batch["masked_lm_weights"].sum()
    assert len(packed["input_ids"]) <= len(lengths)
