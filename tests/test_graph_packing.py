"""Rows of long texts, in the graph as in Python."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from bert_tf.data.features import pool_windows
from bert_tf.graph_packing import pack_pairs, pack_windows, pool
from bert_tf.packing import pack
from bert_tf.packing import pack_windows as python_windows

CLS, SEP = 101, 102
texts = st.integers(0, 60)  # pieces


def ragged(lengths, first):
    return tf.ragged.constant(
        [list(range(first, first + n)) for n in lengths], tf.int32, row_splits_dtype=tf.int64
    )


def unpadded(rows):
    ids, mask, segments = (x.numpy() for x in rows)
    return [
        (list(row[: m.sum()]), list(segment[: m.sum()]))
        for row, m, segment in zip(ids, mask, segments, strict=True)
    ]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), st.integers(4, 40))
def test_head_and_tail(pairs, length):
    a, b = ([pair[i] for pair in pairs] for i in (0, 1))
    rows = pack_pairs(ragged(a, 1000), ragged(b, 5000), CLS, SEP, length, "head_tail")
    expected = [
        pack(
            list(range(1000, 1000 + n)),
            list(range(5000, 5000 + m)),
            cls_id=CLS,
            sep_id=SEP,
            max_seq_length=length,
            long_text="head_tail",
        )
        for n, m in pairs
    ]
    assert unpadded(rows) == expected


@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=6),
    st.integers(4, 40),
    st.none() | st.integers(1, 50),
)
def test_windows(pairs, length, stride):
    a, b = ([pair[i] for pair in pairs] for i in (0, 1))
    rows, owner = pack_windows(ragged(a, 1000), ragged(b, 5000), CLS, SEP, length, stride)
    expected, owners = [], []
    for number, (n, m) in enumerate(pairs):
        made = python_windows(
            list(range(1000, 1000 + n)),
            list(range(5000, 5000 + m)),
            cls_id=CLS,
            sep_id=SEP,
            max_seq_length=length,
            stride=stride,
        )
        expected += made
        owners += [number] * len(made)
    assert unpadded(rows) == expected
    assert owner.numpy().tolist() == owners


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_of_windows(pooling):
    logits = np.array([[1.0, 5.0], [3.0, 1.0], [2.0, 2.0]], np.float32)
    ours = pool_windows(logits, [2, 1], pooling)
    wanted = {"mean": [[2.0, 3.0], [2.0, 2.0]], "max": [[3.0, 5.0], [2.0, 2.0]]}
    np.testing.assert_array_equal(ours, wanted[pooling])
    np.testing.assert_array_equal(pool(tf.constant(logits), tf.constant([0, 0, 1]), pooling), ours)
