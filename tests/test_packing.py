"""Truncation and packing, against a plain statement of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tf.packing import pack, pack_windows, packed_length, pieces_cut, truncate_seq_pair

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


def head_tail(a, b, length):
    return pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=length, long_text="head_tail")


def windows(a, b, length, stride=None):
    return pack_windows(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=length, stride=stride)


def test_head_tail_keeps_128_and_382_of_510():
    text = list(range(1000, 2000))
    input_ids, segment_ids = head_tail(text, None, 512)
    assert input_ids == [CLS, *text[:128], *text[-382:], SEP]
    assert segment_ids == [0] * 512


def test_head_tail_of_a_pair_has_google_s_lengths():
    a, b = list(range(10)), list(range(100, 140))
    input_ids, _ = head_tail(a, b, 3 + 30)
    assert input_ids == [CLS, *a, SEP, *b[:5], *b[-15:], SEP]  # 20 * 128 / 510 is about 5
    assert head_tail(a, b, 53) == pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=53)


@given(ids, ids, st.integers(3, 60))
def test_head_tail_differs_from_truncation_only_in_which_pieces_stay(a, b, length):
    input_ids, segment_ids = head_tail(a, b, length)
    truncated, segments = pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=length)
    assert segment_ids == segments and len(input_ids) == len(truncated)
    kept = input_ids[1 : input_ids.index(SEP)]
    head = next(n for n in range(len(kept), -1, -1) if kept[:n] == a[:n])
    assert kept[head:] == a[len(a) - (len(kept) - head) :]


def test_pack_makes_one_row():
    with pytest.raises(ValueError, match="--long_text=windows does not make one row"):
        pack([1], None, cls_id=CLS, sep_id=SEP, max_seq_length=8, long_text="windows")


def test_windows_of_one_text():
    assert windows([1, 2, 3, 4, 5, 6, 7], None, 6, stride=2) == [
        ([CLS, 1, 2, 3, 4, SEP], [0] * 6),
        ([CLS, 3, 4, 5, 6, SEP], [0] * 6),
        ([CLS, 5, 6, 7, SEP], [0] * 5),
    ]
    assert windows([1, 2, 3, 4], None, 6) == [([CLS, 1, 2, 3, 4, SEP], [0] * 6)]
    # A stride beyond the window would leave pieces out.
    assert windows([1, 2, 3], None, 4, stride=99) == windows([1, 2, 3], None, 4, stride=2)


def test_windows_of_a_pair_move_past_the_longer_text():
    ones, twos = [1, 1], [21, 22, 23, 24, 25]
    assert windows(ones, twos, 8, stride=2) == [
        ([CLS, 1, 1, SEP, 21, 22, 23, SEP], [0] * 4 + [1] * 4),
        ([CLS, 1, 1, SEP, 23, 24, 25, SEP], [0] * 4 + [1] * 4),
    ]
    assert windows(twos, ones, 8, stride=2) == [
        ([CLS, 21, 22, 23, SEP, 1, 1, SEP], [0] * 5 + [1] * 3),
        ([CLS, 23, 24, 25, SEP, 1, 1, SEP], [0] * 5 + [1] * 3),
    ]
    # The text that stands in every row has half of the room.
    assert [row[0] for row in windows([1, 2, 3], [4, 5, 6], 7, stride=2)] == [
        [CLS, 1, 2, SEP, 4, 5, SEP],
        [CLS, 1, 2, SEP, 6, SEP],
    ]
    assert pieces_cut(3, 3, 7, "windows") == 1


@given(ids, ids, st.integers(4, 60), st.none() | st.integers(1, 60))
def test_windows_hold_every_piece_that_is_not_counted_as_cut(a, b, length, stride):
    a, b = list(range(1000, 1000 + len(a))), list(range(2000, 2000 + len(b)))
    rows = windows(a, b, length, stride)
    for input_ids, segment_ids in rows:
        assert len(input_ids) == len(segment_ids) <= length
        assert input_ids[0] == CLS and input_ids[-1] == SEP
    held = {piece for input_ids, _ in rows for piece in input_ids}
    cut = pieces_cut(len(a), len(b), length, "windows")
    assert len(held & {*a, *b}) == len(a) + len(b) - cut
    if packed_length(len(a), len(b)) <= length:
        assert rows == [pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=length)]
    else:
        assert (a if len(a) > len(b) else b)[-1] in rows[-1][0]
        # Full, but for the [SEP] of a second text of which nothing is left.
        assert {len(row[0]) for row in rows[:-1]} <= {length, length - 1}


@given(ids, ids, st.integers(4, 60), st.sampled_from(["truncate", "head_tail"]))
def test_pieces_cut_counts_what_is_in_no_row(a, b, length, long_text):
    input_ids, _ = pack(a, b, cls_id=CLS, sep_id=SEP, max_seq_length=length, long_text=long_text)
    kept = len(input_ids) - 1 - input_ids.count(SEP)
    assert pieces_cut(len(a), len(b), length, long_text) == len(a) + len(b) - kept


def test_windows_need_room_and_a_stride():
    with pytest.raises(ValueError, match="has no room for .* a window; use 3 or more"):
        windows([1, 2], None, 2)
    with pytest.raises(ValueError, match="--window_stride=0 must be 1 or more"):
        windows([1], None, 8, stride=0)
