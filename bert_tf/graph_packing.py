"""`packing` as graph operations: rows from the ids of one text or two, for tf.data and SavedModels.

Shape letters: B texts, R rows (B, or more with windows), F from-length, the longest row's.
"""

from __future__ import annotations

import tensorflow as tf

from bert_tf.packing import HEAD_SHARE

Tensors = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # input_ids, input_mask, segment_ids [R, F]


def pack_pairs(
    a: tf.RaggedTensor,
    b: tf.RaggedTensor | None,
    cls_id: int,
    sep_id: int,
    max_seq_length: int,
    long_text: str = "truncate",
) -> Tensors:
    """`packing.pack` for a batch: `[CLS] a [SEP] b [SEP]`, a row a text or pair.

    Args:
      a, b: ids, int32 ragged [B, (pieces)]. A row without pieces in `b`, or `b=None`, makes a
        single text.
      long_text: `truncate`, Google's, or `head_tail`.

    Returns: `(input_ids, input_mask, segment_ids)`, int32 [B, F].
    Raises: ValueError if `max_seq_length` has no room for the special tokens.
    """
    _check_room(max_seq_length, 2 if b is None else 3)
    b = a[:, :0] if b is None else b
    length_a, length_b = _lengths(a), _lengths(b)
    room = max_seq_length - 2 - tf.cast(length_b > 0, tf.int64)
    # Taking pieces from the longer text, from b on a tie, leaves each its half, or what the other
    # one does not need; a has the odd place.
    half_b = room // 2
    kept_a = tf.minimum(length_a, tf.maximum(room - half_b, room - length_b))
    kept_b = tf.minimum(length_b, tf.maximum(half_b, room - length_a))
    shorten = _head_and_tail if long_text == "head_tail" else _first
    return _rows(shorten(a, kept_a), shorten(b, kept_b), cls_id, sep_id)


def pack_windows(
    a: tf.RaggedTensor,
    b: tf.RaggedTensor,
    cls_id: int,
    sep_id: int,
    max_seq_length: int,
    stride: int | None = None,
) -> tuple[Tensors, tf.Tensor]:
    """`packing.pack_windows` for a batch.

    Args:
      a, b, stride: as there; ids as for `pack_pairs`.

    Returns: the rows, and for each the text that it is of, int64 [R], ascending.
    Raises: ValueError if `max_seq_length` has no room for a window.
    """
    _check_room(max_seq_length, 4)
    length_a, length_b = _lengths(a), _lengths(b)
    room = max_seq_length - 2 - tf.cast(length_b > 0, tf.int64)
    moves_b = length_b >= length_a
    shorter, longer = tf.minimum(length_a, length_b), tf.maximum(length_a, length_b)
    fits = length_a + length_b <= room
    kept = tf.where(fits, shorter, tf.minimum(shorter, room // 2))
    length = tf.where(fits, longer, room - kept)  # of a window
    step = tf.maximum(length // 2, 1) if stride is None else tf.constant(stride, tf.int64)
    step = tf.maximum(tf.minimum(step, length), 1)
    count = 1 + (longer - length + step - 1) // step
    owner = tf.repeat(tf.range(tf.size(count, tf.int64)), count)  # [R]
    number = tf.ragged.range(count).values  # of the window in its text, [R]
    start = number * tf.gather(step, owner)
    stop = tf.minimum(start + tf.gather(length, owner), tf.gather(longer, owner))
    kept, moves_b, zero = tf.gather(kept, owner), tf.gather(moves_b, owner), tf.zeros_like(start)

    def part(ids: tf.RaggedTensor, moves: tf.Tensor) -> tf.RaggedTensor:
        begin = tf.gather(tf.cast(ids.row_starts(), tf.int64), owner)
        first, last = tf.where(moves, start, zero), tf.where(moves, stop, kept)
        return tf.gather(ids.values, tf.ragged.range(begin + first, begin + last))

    rows = _rows(part(a, ~moves_b), part(b, moves_b), cls_id, sep_id)
    return rows, owner


def pool(logits: tf.Tensor, owner: tf.Tensor, pooling: str) -> tf.Tensor:
    """Logits of windows [R, L] and their texts [R], ascending -> [B, L]: their `mean` or `max`."""
    join = tf.math.segment_mean if pooling == "mean" else tf.math.segment_max
    return join(logits, owner)


def _check_room(max_seq_length: int, least: int) -> None:
    if max_seq_length < least:
        raise ValueError(
            f"max_seq_length={max_seq_length} has no room for [CLS] and [SEP]; use {least} or more"
        )


def _rows(a: tf.RaggedTensor, b: tf.RaggedTensor, cls_id: int, sep_id: int) -> Tensors:
    """`[CLS] a [SEP] b [SEP]` of ids that fit: ragged [R, (pieces)]."""
    length_a, length_b = _lengths(a), _lengths(b)
    has_b, one = tf.cast(length_b > 0, tf.int64), tf.ones_like(length_a)
    parts = [_repeat(cls_id, one), a, _repeat(sep_id, one), b, _repeat(sep_id, has_b)]
    input_ids = tf.concat(parts, axis=1).to_tensor()
    from_length = tf.shape(input_ids)[1]
    in_a, in_row = (
        tf.sequence_mask(length, from_length, tf.int32)
        for length in (length_a + 2, length_a + 2 + length_b + has_b)
    )
    return input_ids, in_row, in_row - in_a


def _lengths(ids: tf.RaggedTensor) -> tf.Tensor:
    return tf.cast(ids.row_lengths(), tf.int64)


def _first(ids: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths` [B] ids of each row of `ids` [B, (pieces)]."""
    starts = tf.cast(ids.row_starts(), tf.int64)
    return tf.gather(ids.values, tf.ragged.range(starts, starts + lengths))


def _head_and_tail(ids: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """`lengths` [B] ids of each row: the first ones and, where that is not all, the last ones."""
    part, whole = HEAD_SHARE
    all_of_it = lengths == _lengths(ids)
    head = tf.where(all_of_it, lengths, (2 * lengths * part + whole) // (2 * whole))  # rounded
    starts = tf.cast(ids.row_starts(), tf.int64)
    limits = tf.cast(ids.row_limits(), tf.int64)
    heads = tf.ragged.range(starts, starts + head)
    tails = tf.ragged.range(limits - (lengths - head), limits)
    return tf.gather(ids.values, tf.concat([heads, tails], axis=1))


def _repeat(value: int, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Rows of `lengths` [B] times `value`."""
    flat = tf.fill([tf.reduce_sum(lengths)], value)
    return tf.RaggedTensor.from_row_lengths(flat, lengths)
