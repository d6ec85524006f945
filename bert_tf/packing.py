"""`[CLS] a [SEP] b [SEP]`: truncation and segments, as google-research/bert does it.

Three ways with a text that is too long (`LONG_TEXT`):

* `truncate`: Google's; the longer of two texts loses its last piece until both fit.
* `head_tail`: each text has as much room as with `truncate`, and keeps its first and its last
  pieces, 128 of 510 at the head (Sun et al. 2019, "How to Fine-Tune BERT for Text
  Classification?", section 5.3.1).
* `windows`: the text becomes several rows that overlap. Of two texts the shorter one (`a` on a
  tie) stands in every row, cut to half of the room; the longer one moves past it.
"""

from collections.abc import Sequence

LONG_TEXT = ("truncate", "head_tail", "windows")

Packed = tuple[list[int], list[int]]  # input_ids, segment_ids

HEAD_SHARE = (128, 510)  # of the pieces that `head_tail` keeps, so many are at the head


def packed_length(length_a: int, length_b: int) -> int:
    """Positions that two texts of so many pieces need, `[CLS]` and `[SEP]` included."""
    return length_a + length_b + (3 if length_b else 2)


def truncate_seq_pair(a: list, b: list, max_num_tokens: int) -> int:
    """Shortens `a` and `b` in place to `max_num_tokens` pieces together.

    Google's `_truncate_seq_pair`: the longer one loses its last piece, `b` on a tie. One piece at
    a time, since a short text carries more in each piece than a long one.

    Returns: how many pieces were removed.
    Raises: ValueError if `max_num_tokens` is negative.
    """
    if max_num_tokens < 0:
        raise ValueError(f"max_num_tokens={max_num_tokens} must be 0 or more")
    excess = max(0, len(a) + len(b) - max_num_tokens)
    for _ in range(excess):
        longer = a if len(a) > len(b) else b
        longer.pop()
    return excess


def pack(
    ids_a: Sequence[int],
    ids_b: Sequence[int] | None,
    *,
    cls_id: int,
    sep_id: int,
    max_seq_length: int,
    long_text: str = "truncate",
) -> Packed:
    """Packs one text or two into one row, shortened to `max_seq_length`.

    Google's `convert_single_example`: `[CLS] a [SEP]` has segment 0, `b [SEP]` segment 1. A second
    text without pieces counts as none: it gets no `[SEP]`.

    Args:
      long_text: `truncate` or `head_tail`; see the module.

    Returns: `(input_ids, segment_ids)`, of equal length, not padded.
    Raises: ValueError if `max_seq_length` has no room for the special tokens, or for another
      `long_text`.
    """
    if long_text not in ("truncate", "head_tail"):
        raise ValueError(f"--long_text={long_text} does not make one row; use pack_windows")
    room = _room(len(ids_b or ()), max_seq_length, 0)
    a, b = list(ids_a), list(ids_b or ())
    truncate_seq_pair(a, b, room)
    if long_text == "head_tail":
        a, b = _head_tail(ids_a, len(a)), _head_tail(ids_b or (), len(b))
    return _row(a, b, cls_id, sep_id)


def pack_windows(
    ids_a: Sequence[int],
    ids_b: Sequence[int] | None,
    *,
    cls_id: int,
    sep_id: int,
    max_seq_length: int,
    stride: int | None = None,
) -> list[Packed]:
    """Packs one text or two into as many rows as they need, in the order of the text.

    What fits is one row, equal to that of `pack`.

    Args:
      stride: pieces from the beginning of a window to that of the next; a window's length at
        most, so that no piece is left out (as `doc_stride` of run_squad.py), by default half.

    Returns: `(input_ids, segment_ids)` for each row, not padded.
    Raises: ValueError if `max_seq_length` has no room for a piece, or `stride` is not positive.
    """
    if stride is not None and stride < 1:
        raise ValueError(f"--window_stride={stride} must be 1 or more")
    a, b = list(ids_a), list(ids_b or ())
    room = _room(len(b), max_seq_length, 1)
    if len(a) + len(b) <= room:
        return [_row(a, b, cls_id, sep_id)]
    cut = pieces_cut(len(a), len(b), max_seq_length, "windows")
    moves_b = len(b) >= len(a)
    kept, long = (a, b) if moves_b else (b, a)
    kept = kept[: len(kept) - cut]
    length = room - len(kept)
    step = min(stride or max(1, length // 2), length)
    starts = range(0, len(long) - length + step, step)
    windows = [long[start : start + length] for start in starts]
    pairs = [(kept, window) if moves_b else (window, kept) for window in windows]
    return [_row(*pair, cls_id, sep_id) for pair in pairs]


def pieces_cut(
    length_a: int, length_b: int, max_seq_length: int, long_text: str = "truncate"
) -> int:
    """How many pieces of two texts of so many are in no row."""
    excess = packed_length(length_a, length_b) - max_seq_length
    if excess <= 0:
        return 0
    if long_text != "windows":
        return excess
    room = _room(length_b, max_seq_length, 1)
    return max(0, min(length_a, length_b) - room // 2)


def _room(length_b: int, max_seq_length: int, least: int) -> int:
    """Pieces that fit beside the special tokens; raises ValueError for fewer than `least`."""
    special = packed_length(0, length_b) - length_b
    if max_seq_length < special + least:
        what = "[CLS] and [SEP]" if not least else "[CLS], [SEP] and a window"
        raise ValueError(
            f"--max_seq_length={max_seq_length} has no room for {what}; "
            f"use {special + least} or more"
        )
    return max_seq_length - special


def _head_tail(ids: Sequence[int], kept: int) -> list[int]:
    part, whole = HEAD_SHARE
    head = kept if kept == len(ids) else round(kept * part / whole)
    return [*ids[:head], *ids[len(ids) - (kept - head) :]]


def _row(a: list[int], b: list[int], cls_id: int, sep_id: int) -> Packed:
    input_ids = [cls_id, *a, sep_id]
    segment_ids = [0] * len(input_ids)
    if b:
        input_ids += [*b, sep_id]
        segment_ids += [1] * (len(b) + 1)
    return input_ids, segment_ids
