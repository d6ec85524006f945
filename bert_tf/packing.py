"""`[CLS] a [SEP] b [SEP]`: truncation and segments, as google-research/bert does it."""

from collections.abc import Sequence


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
) -> tuple[list[int], list[int]]:
    """Packs one text or two into one row, truncated to `max_seq_length`.

    Google's `convert_single_example`: `[CLS] a [SEP]` has segment 0, `b [SEP]` segment 1. A second
    text without pieces counts as none: it gets no `[SEP]`.

    Returns: `(input_ids, segment_ids)`, of equal length, not padded.
    Raises: ValueError if `max_seq_length` has no room for the special tokens.
    """
    special = packed_length(0, len(ids_b or ())) - len(ids_b or ())
    if max_seq_length < special:
        raise ValueError(
            f"--max_seq_length={max_seq_length} has no room for [CLS] and [SEP]; "
            f"use {special} or more"
        )
    a, b = list(ids_a), list(ids_b or ())
    truncate_seq_pair(a, b, max_seq_length - special)
    input_ids = [cls_id, *a, sep_id]
    segment_ids = [0] * len(input_ids)
    if b:
        input_ids += [*b, sep_id]
        segment_ids += [1] * (len(b) + 1)
    return input_ids, segment_ids
