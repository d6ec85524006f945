"""Long texts as rows of sliding windows, as graph operations: for SavedModels.

The windows, and the choice of the one that shows a piece in most context, are those of
`run_squad.py` in google-research/bert (`convert_examples_to_features`, `_check_is_max_context`).

Shape letters: B examples, W windows of all examples, F from-length, P pieces of all windows.
"""

from typing import NamedTuple

import tensorflow as tf


class Windows(NamedTuple):
    """Rows for the model, and where they come from. Those of one example lie together, in order.

    The piece in column `columns + i` of a row, with i < `lengths`, is piece `starts + i` of its
    example's context.
    """

    input_ids: tf.Tensor  # int32 [W, F], F being the longest row
    input_mask: tf.Tensor  # int32 [W, F]
    segment_ids: tf.Tensor  # int32 [W, F]
    examples: tf.Tensor  # place of the example in the batch, int32 [W]
    starts: tf.Tensor  # the window's first piece of the context, int32 [W]
    lengths: tf.Tensor  # how many pieces of the context the window has, int32 [W]
    columns: tf.Tensor  # where in the row the first of them is, int32 [W]
    is_max_context: (
        tf.Tensor
    )  # whether no other window shows the piece in more context, bool [W, F]


def pack_question_windows(
    question: tf.RaggedTensor,
    context: tf.RaggedTensor,
    *,
    cls_id: int,
    sep_id: int,
    max_seq_length: int,
    doc_stride: int,
    max_query_length: int,
) -> Windows:
    """`[CLS] question [SEP] window [SEP]` for each window of each context.

    The question, cut to `max_query_length` pieces, has segment 0, the window segment 1. Windows
    are as long as `max_seq_length` allows; the next one starts `doc_stride` pieces later, or right
    behind if the window has fewer. The last one ends with the context. A context without pieces
    has no window.

    `is_max_context` is True for every piece of a context once: in the window with the greatest
    `min(pieces to the left, to the right) + 0.01 * length`, the first one of equals. It is False at
    [CLS], the question, [SEP] and padding.

    Args:
      question, context: ids, int32 ragged [B, (pieces)].

    Raises: ValueError if there may be no room for a window, or `doc_stride` is not positive.
    """
    if max_seq_length <= max_query_length + 3:
        raise ValueError(
            f"--max_seq_length={max_seq_length} must be greater than "
            f"--max_query_length={max_query_length} + 3, to have room for the context"
        )
    cls, sep = (tf.fill([question.nrows(), 1], i) for i in (cls_id, sep_id))
    head = tf.concat([cls, question[:, :max_query_length], sep], axis=1)
    return _pack(head, context, 1, sep_id, max_seq_length, doc_stride)


def pack_text_windows(
    texts: tf.RaggedTensor, *, cls_id: int, sep_id: int, max_seq_length: int, doc_stride: int
) -> Windows:
    """`[CLS] window [SEP]` for each window of each text, all in segment 0.

    `texts` are ids, int32 ragged [B, (pieces)]; all else is as in `pack_question_windows`.

    Raises: ValueError if there is no room for a window, or `doc_stride` is not positive.
    """
    if max_seq_length < 3:
        raise ValueError(
            f"--max_seq_length={max_seq_length} has no room for text beside [CLS] and [SEP]; "
            "use 3 or more"
        )
    head = tf.RaggedTensor.from_tensor(tf.fill([texts.nrows(), 1], cls_id))
    return _pack(head, texts, 0, sep_id, max_seq_length, doc_stride)


def _pack(
    head: tf.RaggedTensor,
    context: tf.RaggedTensor,
    segment_id: int,
    sep_id: int,
    max_seq_length: int,
    doc_stride: int,
) -> Windows:
    """Rows of `head` [B, (pieces)] and a window of `context` [B, (pieces)] in `segment_id`."""
    if doc_stride < 1:
        raise ValueError(f"--doc_stride={doc_stride} must be 1 or more")
    head_lengths = head.row_lengths()
    room = max_seq_length - head_lengths - 1
    examples, starts, lengths = _windows(context.row_lengths(), room, doc_stride)
    places = tf.gather(context.row_starts(), examples) + starts
    places = tf.ragged.range(places, places + lengths)  # in context.values, [W, (pieces)]
    sep = tf.fill([tf.size(examples), 1], sep_id)
    rows = tf.concat([tf.gather(head, examples), tf.gather(context.values, places), sep], axis=1)
    input_ids = rows.to_tensor()

    columns = tf.gather(head_lengths, examples)
    from_length = tf.shape(input_ids)[1]
    in_head, in_window, in_row = (
        tf.sequence_mask(ends, from_length)
        for ends in (columns, columns + lengths, columns + lengths + 1)
    )
    is_max_context = tf.scatter_nd(
        tf.where(in_window & ~in_head), _is_max_context(places), tf.shape(input_ids, tf.int64)
    )
    input_mask = tf.cast(in_row, tf.int32)
    segment_ids = segment_id * tf.cast(in_row & ~in_head, tf.int32)
    of_windows = (tf.cast(x, tf.int32) for x in (examples, starts, lengths, columns))
    return Windows(input_ids, input_mask, segment_ids, *of_windows, is_max_context)


def _windows(
    sizes: tf.Tensor, room: tf.Tensor, doc_stride: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Contexts of `sizes` [B] pieces -> example, first piece and length of each window, [W]."""
    stride = tf.minimum(room, doc_stride)
    more = -((room - sizes) // stride)  # the ceiling of (sizes - room) / stride
    counts = tf.where(sizes > 0, 1 + tf.maximum(more, 0), 0)
    numbers = tf.ragged.range(counts)  # of the windows in each example, [B, (windows)]
    examples = numbers.value_rowids()
    starts = numbers.values * tf.gather(stride, examples)
    left = tf.gather(sizes, examples) - starts
    return examples, starts, tf.minimum(tf.gather(room, examples), left)


def _is_max_context(places: tf.RaggedTensor) -> tf.Tensor:
    """Whether each window is the best for each of its `places` [W, (pieces)], bool [P].

    A place is a number that the windows with the same piece share.
    """
    window = places.value_rowids()
    left = places.values - tf.gather(places.values, tf.gather(places.row_starts(), window))
    length = tf.gather(places.row_lengths(), window)
    # In double precision, as in Python: windows of different lengths may come close.
    score = tf.cast(tf.minimum(left, length - 1 - left), tf.float64)
    score += 0.01 * tf.cast(length, tf.float64)
    size = tf.reduce_max(tf.concat([places.values, [-1]], axis=0)) + 1
    best = tf.math.unsorted_segment_max(score, places.values, size)
    is_best = score == tf.gather(best, places.values)
    candidates = tf.where(is_best, window, window.dtype.max)
    first = tf.math.unsorted_segment_min(candidates, places.values, size)
    return tf.gather(first, places.values) == window
