"""Windows packed in the graph are those of Google's run_squad.py, worked out one by one."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf.graph_windows import pack_question_windows, pack_text_windows

CLS, SEP = 101, 102
ROW_FIELDS = ("input_ids", "input_mask", "segment_ids", "is_max_context")


def doc_spans(size, room, doc_stride):
    """(start, length) of each window, walking along the text."""
    spans, start = [], 0
    while start < size:
        length = min(size - start, room)
        spans.append((start, length))
        if start + length == size:
            break
        start += min(length, doc_stride)
    return spans


def best_span(spans, position):
    """The window in which the position has most context; the first one of equals."""
    best, best_score = None, None
    for index, (start, length) in enumerate(spans):
        if start <= position < start + length:
            score = min(position - start, start + length - 1 - position) + 0.01 * length
            if best_score is None or score > best_score:
                best, best_score = index, score
    return best


def windows_in_python(head, context, segment, max_seq_length, doc_stride):
    """The windows of one example, as dictionaries by `Windows`'s fields, rows without padding."""
    spans = doc_spans(len(context), max_seq_length - len(head) - 1, doc_stride)
    for index, (start, length) in enumerate(spans):
        row = [*head, *context[start : start + length], SEP]
        best = [best_span(spans, start + i) == index for i in range(length)]
        yield {
            "input_ids": row,
            "input_mask": [1] * len(row),
            "segment_ids": [0] * len(head) + [segment] * (length + 1),
            "starts": start,
            "lengths": length,
            "columns": len(head),
            "is_max_context": [False] * len(head) + best + [False],
        }


def assert_windows(windows, heads, contexts, segment, max_seq_length, doc_stride):
    wanted = [
        {"examples": example, **window}
        for example, (head, context) in enumerate(zip(heads, contexts, strict=True))
        for window in windows_in_python(head, context, segment, max_seq_length, doc_stride)
    ]
    longest = max((len(window["input_ids"]) for window in wanted), default=0)
    for name, tensor in windows._asdict().items():
        assert tensor.dtype == (tf.bool if name == "is_max_context" else tf.int32)
        values = [window[name] for window in wanted]
        if name in ROW_FIELDS:
            assert tensor.shape == (len(wanted), longest)
            values = [row + [0] * (longest - len(row)) for row in values]
        assert tensor.numpy().tolist() == values, name


def ragged(rows):
    return tf.ragged.constant(rows, tf.int32, ragged_rank=1)


def texts(max_size):
    return st.integers(0, max_size).map(lambda size: list(range(1000, 1000 + size)))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(texts(12), texts(60)), max_size=6),
    st.integers(0, 8),
    st.integers(1, 30),
    st.integers(1, 40),
)
def test_question_windows_as_in_python(pairs, max_query_length, more, doc_stride):
    max_seq_length = max_query_length + 3 + more
    questions, contexts = ([pair[k] for pair in pairs] for k in (0, 1))
    windows = pack_question_windows(
        ragged(questions),
        ragged(contexts),
        cls_id=CLS,
        sep_id=SEP,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
        max_query_length=max_query_length,
    )
    heads = [[CLS, *question[:max_query_length], SEP] for question in questions]
    assert_windows(windows, heads, contexts, 1, max_seq_length, doc_stride)


@settings(max_examples=20)
@given(st.lists(texts(60), max_size=6), st.integers(3, 30), st.integers(1, 40))
def test_text_windows_as_in_python(contexts, max_seq_length, doc_stride):
    windows = pack_text_windows(
        ragged(contexts),
        cls_id=CLS,
        sep_id=SEP,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
    )
    heads = [[CLS]] * len(contexts)
    assert_windows(windows, heads, contexts, 0, max_seq_length, doc_stride)


@pytest.mark.parametrize(
    ("max_seq_length", "doc_stride", "sizes"),
    [
        (384, 128, range(384, 1100, 14)),
        # A window 100 pieces shorter is as good as one piece of context less, but for rounding:
        # in single precision 2.82 and 1 + 1.82 are equal, in double precision they are not.
        (284, 280, [462]),
    ],
)
def test_text_windows_of_common_sizes(max_seq_length, doc_stride, sizes):
    contexts = [list(range(size)) for size in sizes]
    windows = pack_text_windows(
        ragged(contexts),
        cls_id=CLS,
        sep_id=SEP,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
    )
    assert_windows(windows, [[CLS]] * len(contexts), contexts, 0, max_seq_length, doc_stride)


def test_settings_without_room():
    ids = ragged([[1]])
    with pytest.raises(ValueError, match=r"--max_seq_length=67 must .* --max_query_length=64 \+ 3"):
        pack_question_windows(
            ids, ids, cls_id=1, sep_id=2, max_seq_length=67, doc_stride=1, max_query_length=64
        )
    with pytest.raises(ValueError, match="--max_seq_length=2 has no room.*use 3 or more"):
        pack_text_windows(ids, cls_id=1, sep_id=2, max_seq_length=2, doc_stride=1)
    with pytest.raises(ValueError, match="--doc_stride=0 must be 1 or more"):
        pack_text_windows(ids, cls_id=1, sep_id=2, max_seq_length=3, doc_stride=0)
