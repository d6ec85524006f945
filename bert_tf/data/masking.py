"""Which pieces of a row are masked, drawn anew in every epoch. Without TensorFlow.

n rows, L positions, M masked pieces at most.
"""

from __future__ import annotations

import numpy as np

from bert_tf.batching import Arrays


def draw_masks(
    rows: Arrays,
    seeds: np.ndarray,
    *,
    vocab_size: int,
    mask_id: int,
    masked_lm_prob: float,
    max_predictions_per_seq: int,
) -> Arrays:
    """Masks whole units of rows, by the rules of Google's create_masked_lm_predictions.

    Of the pieces so many are masked as `masked_lm_prob` of the row's length, at least one; a unit
    that would make them more is passed over. A masked piece becomes [MASK] eight times in ten,
    stays as it is once, and becomes any piece of the vocabulary once.

    Args:
      rows: `input_ids` and `masking_units` [n, L]: pieces of one unit have one number, and 0 is
        never masked; `input_mask` [n, L].
      seeds: [n, ...] integers of 0 or more; a row's mask depends on its own seeds alone.
    """
    count, length = rows["input_ids"].shape
    ids = rows["input_ids"].copy()
    masked = {
        "masked_lm_positions": np.zeros((count, max_predictions_per_seq), np.int32),
        "masked_lm_ids": np.zeros((count, max_predictions_per_seq), np.int32),
        "masked_lm_weights": np.zeros((count, max_predictions_per_seq), np.float32),
    }
    for i in range(count):
        rng = np.random.default_rng(np.atleast_1d(seeds[i]).tolist())
        used = int(np.count_nonzero(rows["input_mask"][i]))
        wanted = min(max_predictions_per_seq, max(1, round(used * masked_lm_prob)))
        places = _choose(rows["masking_units"][i], wanted, rng)
        words = ids[i, places]
        draw = rng.random(len(places))
        ids[i, places] = np.where(
            draw < 0.8,
            mask_id,
            np.where(draw < 0.9, words, rng.integers(0, vocab_size, len(places))),
        )
        masked["masked_lm_positions"][i, : len(places)] = places
        masked["masked_lm_ids"][i, : len(places)] = words
        masked["masked_lm_weights"][i, : len(places)] = 1
    return {"input_ids": ids, **masked}


def _choose(units: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of whole units, `wanted` at most, ascending."""
    sizes = np.bincount(units)
    sizes[:1] = 0
    room, chosen = wanted, []
    for unit in rng.permutation(np.flatnonzero(sizes)):
        if sizes[unit] <= room:
            chosen.append(unit)
            room -= sizes[unit]
        if not room:
            break
    return np.flatnonzero(np.isin(units, chosen))
