"""The features that an example becomes, and what windows of one example say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bert_tf.data.examples import InputExample, label_names
from bert_tf.packing import LONG_TEXT, Packed, pack, pack_windows, pieces_cut

Features = dict[str, list[int] | list[float]]

POOLINGS = {"mean": np.add, "max": np.maximum}


class Tokenizer(Protocol):
    """What building features asks of a tokenizer."""

    cls_token_id: int
    sep_token_id: int
    unk_token_id: int

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Packing:
    """How long a row is and what becomes of longer texts; see `bert_tf.packing`.

    Raises: ValueError for a combination that does not fit.
    """

    max_seq_length: int
    long_text: str = "truncate"
    window_stride: int | None = None  # pieces between the starts of two windows

    def __post_init__(self) -> None:
        if self.long_text not in LONG_TEXT:
            raise ValueError(f"--long_text={self.long_text} must be one of {', '.join(LONG_TEXT)}")
        if self.long_text == "windows" and self.max_seq_length < 4:
            raise ValueError(
                f"--max_seq_length={self.max_seq_length} has no room for a window; use 4 or more"
            )
        if self.window_stride is not None and self.long_text != "windows":
            raise ValueError(
                f"--window_stride={self.window_stride} is for --long_text=windows, "
                f"not {self.long_text}"
            )

    def rows(
        self, ids_a: Sequence[int], ids_b: Sequence[int], tokenizer: Tokenizer
    ) -> list[Packed]:
        """`(input_ids, segment_ids)` of one row, or with windows of as many as are needed."""
        special = {"cls_id": tokenizer.cls_token_id, "sep_id": tokenizer.sep_token_id}
        length = self.max_seq_length
        if self.long_text == "windows":
            stride = self.window_stride
            return pack_windows(ids_a, ids_b, **special, max_seq_length=length, stride=stride)
        return [pack(ids_a, ids_b, **special, max_seq_length=length, long_text=self.long_text)]


@dataclass(frozen=True)
class PackedExample:
    """The rows of one example, and what was found on the way.

    Attributes:
      rows: features by Google's names: `input_ids`, `input_mask` and `segment_ids` of
        `max_seq_length` ints, zero-padded; `label_ids`; `is_real_example`.
      pieces: of its texts, before anything is cut.
      unknown: those of them that are [UNK].
      cut: those that are in no row.
    """

    rows: list[Features]
    pieces: int
    unknown: int
    cut: int


def example_features(
    example: InputExample,
    tokenizer: Tokenizer,
    label_ids: Mapping[str, int] | None,
    packing: Packing,
    multilabel: bool = False,
) -> PackedExample:
    """The features of one example, as Google's `convert_single_example` makes them.

    Args:
      label_ids: the id of each label, or None for regression (the label is then a float).
      multilabel: a row has any number of labels, and its `label_ids` are L floats, 0 or 1.
    """
    ids_a = tokenizer.encode(example.text_a)
    ids_b = tokenizer.encode(example.text_b) if example.text_b else []
    target = _target(example.label, label_ids, multilabel)
    length = packing.max_seq_length
    return PackedExample(
        rows=[_padded(row, length, target) for row in packing.rows(ids_a, ids_b, tokenizer)],
        pieces=len(ids_a) + len(ids_b),
        unknown=ids_a.count(tokenizer.unk_token_id) + ids_b.count(tokenizer.unk_token_id),
        cut=pieces_cut(len(ids_a), len(ids_b), length, packing.long_text),
    )


def _target(
    label: str, label_ids: Mapping[str, int] | None, multilabel: bool
) -> list[int] | list[float]:
    if label_ids is None:
        return [float(label)]
    if not multilabel:
        return [label_ids[label]]
    names = set(label_names(label))
    return [float(name in names) for name in label_ids]


def _padded(row: Packed, length: int, target: list[int] | list[float]) -> Features:
    input_ids, segment_ids = row
    used, padding = len(input_ids), [0] * (length - len(input_ids))
    return {
        "input_ids": input_ids + padding,
        "input_mask": [1] * used + padding,
        "segment_ids": segment_ids + padding,
        "label_ids": target,
        "is_real_example": [1],
    }


def pool_windows(logits: np.ndarray, counts: Sequence[int], pooling: str) -> np.ndarray:
    """Joins what was said of the windows of each example.

    Args:
      logits: float32 `[sum(counts), L]`, in the order in which the rows were made.
      counts: how many rows each of the n examples has, 1 or more.
      pooling: `mean` or `max`, of the logits.

    Returns: float32 `[n, L]`; of an example with one row, that row.
    """
    rows = np.asarray(counts)
    starts = np.cumsum(rows) - rows
    pooled = POOLINGS[pooling].reduceat(logits, starts, axis=0)
    return pooled / rows[:, None].astype(logits.dtype) if pooling == "mean" else pooled
