"""Truncation and packing, against a plain statement of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tf.packing import pack, packed_length, truncate_seq_pair

CLS, SEP = 101, 102
ids = st.lists(st.integers(1000, 30000), max_size=40)


@pytest.mark.parametrize(
    ("lengths", "limit", "expected"),
    [
        ((3, 3), 6, (3, 3)),
        ((3, 3), 5, (3, 2)),  # a tie shortens b
        ((5, 3), 6, (3, 3)),
        ((5, 3), 5, (3, 2)),
        ((1, 9), 4, (1, 3)),
        ((9, 1), 4, (3, 1)),
        ((2, 2), 0, (0, 0)),
        ((1, 1), 1, (1, 0)),
    ],
)
def test_truncation_shortens_the_longer_and_b_on_a_tie(lengths, limit, expected):
    a, b = (list(range(n)) for n in lengths)
    removed = truncate_seq_pair(a, b, limit)
    assert (a, b) == tuple(list(range(n)) for n in expected)
    assert removed == sum(lengths) - sum(expected)


def test_truncation_refuses_a_negative_length():
    with pytest.raises(ValueError, match="max_num_tokens=-1"):
        truncate_seq_pair([1], [2], -1)


def test_pack_single_and_pair():
    def packed(a, b, length=16):
        return pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=length)

    assert packed([7, 8], None) == ([CLS, 7, 8, SEP], [0, 0, 0, 0])
    assert packed([7, 8], []) == packed([7, 8], None)
    assert packed([7], [8, 9]) == ([CLS, 7, SEP, 8, 9, SEP], [0, 0, 0, 1, 1, 1])
    assert packed([], [8]) == ([CLS, SEP, 8, SEP], [0, 0, 1, 1])
    # As in Google's code, a second text of which nothing is left gets no [SEP].
    assert packed([7, 7], [8, 8], length=4) == ([CLS, 7, SEP], [0, 0, 0])


@pytest.mark.parametrize(("b", "least"), [(None, 2), ([1], 3)])
def test_pack_needs_room_for_the_special_tokens(b, least):
    with pytest.raises(ValueError, match=f"--max_seq_length={least - 1} .*use {least} or more"):
        pack([1], b, cls_id=CLS, sep_id=SEP, max_seq_length=least - 1)
    assert pack([1], b, cls_id=CLS, sep_id=SEP, max_seq_length=least)[0] == [CLS, SEP]


@given(ids, ids, st.integers(3, 60))
def test_pack_keeps_the_beginnings_and_fills_the_room(a, b, max_seq_length):
    given_a, given_b = list(a), list(b)
    input_ids, segment_ids = pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=max_seq_length)
    assert (a, b) == (given_a, given_b)
    assert len(input_ids) == len(segment_ids) <= max_seq_length
    first_end = input_ids.index(SEP)
    kept_a, rest = input_ids[1:first_end], input_ids[first_end + 1 :]
    kept_b = rest[:-1]
    assert input_ids[0] == CLS and rest[-1:] in ([], [SEP])
    assert kept_a == a[: len(kept_a)] and kept_b == b[: len(kept_b)]
    assert segment_ids == [0] * (first_end + 1) + [1] * len(rest)
    if packed_length(len(a), len(b)) <= max_seq_length:
        assert (kept_a, kept_b) == (a, b)
    else:
        # Full, but for the [SEP] of a second text of which nothing is left.
        assert len(input_ids) == max_seq_length - (bool(b) and not kept_b)
        # A text is cut only while it is the longer one.
        assert kept_a == a or len(kept_a) >= len(kept_b)
        assert kept_b == b or len(kept_b) >= len(kept_a) - 1
