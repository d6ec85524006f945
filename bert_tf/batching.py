"""Which rows make a batch, and how far it is padded. Without TensorFlow."""

from __future__ import annotations

import functools
import math

import numpy as np

Arrays = dict[str, np.ndarray]

# A batch is padded to a multiple of 1/8 of --max_seq_length: at most eight shapes a run.
NUM_BUCKETS = 8
# Matrix products and softmax add in the same order at any length up to 32 and at multiples of 16,
# and for a number of rows that divides by 8: float32 outputs are then those of full padding, bit
# for bit, on the processors that were tried.
_EXACT_LENGTH, _LENGTH_STEP, EXACT_ROWS = 32, 16, 8


def training_rows(
    step: int, batch_size: int, num_rows: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one step: position p of the run is row `p % num_rows` of epoch `p // num_rows`.

    Every epoch is a new permutation of the whole file, drawn from (seed, epoch); batches run on
    across the end of an epoch, so no row is left out. (Google's programs shuffle a window of 100
    rows only.)

    Returns:
      Their numbers in the file and their epochs, each int64 `[batch_size]`.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, num_rows)
    rows = [
        _epoch_order(num_rows, seed, int(epoch))[offset]
        for epoch, offset in zip(epochs, offsets, strict=True)
    ]
    return np.array(rows), epochs


@functools.lru_cache(maxsize=2)
def _epoch_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def trim_padding(batch: Arrays, max_seq_length: int, whole: frozenset[str] = frozenset()) -> Arrays:
    """Cuts `[B, max_seq_length]` features to the batch's longest row, rounded up to a bucket.

    Padding is masked out of attention, so that no result changes by it. The features in `whole`
    are not a value a position, and stay as they are.
    """
    longest = int(np.count_nonzero(batch["input_mask"], axis=1).max(initial=1))
    step = math.ceil(max_seq_length / NUM_BUCKETS)
    length = min(max_seq_length, math.ceil(longest / step) * step)
    return {
        name: value[:, :length]
        if value.shape[1:] == (max_seq_length,) and name not in whole
        else value
        for name, value in batch.items()
    }


def exact_length(longest: int, limit: int) -> int:
    """How far rows of up to `longest` tokens are padded, `limit` at most, for the same vectors as
    with any other padding."""
    if longest > _EXACT_LENGTH:
        longest = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    return min(longest, limit)


def pad_rows(batch: Arrays, multiple: int) -> Arrays:
    """Adds all-zero rows (`is_real_example` 0) until the batch divides by `multiple`."""
    rows = len(batch["input_ids"])
    missing = -rows % multiple
    return {
        name: np.concatenate([value, np.zeros((missing, *value.shape[1:]), value.dtype)])
        for name, value in batch.items()
    }
