"""Texts -> rows of ids, and rows -> what the model takes."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from bert_tf.base_tokenizer import Tokenizer
from bert_tf.batching import Arrays
from bert_tf.packing import pack, pieces_cut
from bert_tf.serving.assets import Plan
from bert_tf.serving.protocol import BAD_REQUEST, Refused, Text

_CHARACTERS = 20_000  # of a text that are tokenized first, and often are enough
_LONGEST_WORD = 200  # characters, beyond which WordPiece gives up a word

_PAIR_TOKEN = "|||"  # between two texts that come as one list of tokens

_STRETCHES = (1, 1.5, 2, 3, 4)  # lengths of a line that are tried, in longest rows
# Tokens of a line, of which each costs twice as much as of a short one, by attention; as measured.
_DEAR_LENGTH = 300

OF_TOKENS = ("input_ids", "input_mask", "segment_ids", "position_ids", "text")
OF_ROWS = ("line", "start", "length")


class Row(NamedTuple):
    """A text as the model reads it: int32 ids, how many are of the first text, special tokens."""

    input_ids: np.ndarray
    first: int
    special: bool  # whether [CLS] and [SEP] are around it
    cut: bool = False  # whether pieces of the text are missing


class RowMaker:
    """Makes rows of texts."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer):
        self.plan, self.tokenizer = plan, tokenizer

    def __call__(self, text: Text) -> Row:
        """A text's row, cut to the length of the model. Raises Refused for one it cannot tell."""
        tokenizer, limit = self.tokenizer, self.plan.max_length
        if isinstance(text, list):
            a, b = self._given_tokens(text)
            if self.plan.arguments.no_special_token and not b and a:
                return Row(np.array(a[:limit], np.int32), len(a), False, len(a) > limit)
        else:
            a, b = self._ids(text[0]), self._ids(text[1] or "")
        if b and self.plan.config.type_vocab_size < 2:
            raise Refused(BAD_REQUEST, "this model has one segment type and cannot take pairs")
        ids, segments = pack(
            a,
            b,
            cls_id=tokenizer.cls_token_id,
            sep_id=tokenizer.sep_token_id,
            max_seq_length=limit,
            long_text=self.plan.long_text,
        )
        cut = pieces_cut(len(a), len(b), limit) > 0
        return Row(np.array(ids, np.int32), segments.count(0), True, cut)

    def _ids(self, text: str) -> list[int]:
        """Of the text's pieces; of a long one, at least of those that a row can hold.

        Where a text is cut only the pieces of its last word change, which has 200 at most.
        """
        by_words = self.tokenizer.file_argument == "vocab_file"
        size = _CHARACTERS if by_words and self.plan.long_text == "truncate" else len(text)
        while True:
            ids = self.tokenizer.encode(text[:size])
            if size >= len(text) or len(ids) >= self.plan.max_length + _LONGEST_WORD:
                return ids
            size *= 4

    def _given_tokens(self, tokens: list[str]) -> tuple[list[int], list[int]]:
        vocab, unknown = self.tokenizer.vocab, self.tokenizer.unk_token_id
        ids = [vocab.get(token, unknown) for token in tokens]
        if _PAIR_TOKEN not in tokens:
            return ids, []
        middle = len(tokens) - 1 - tokens[::-1].index(_PAIR_TOKEN)  # the last, as in a line
        return ids[:middle], ids[middle + 1 :]

    def tokens(self, row: Row) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens(row.input_ids.tolist())


def features(rows: list[Row], mask_special: bool) -> Arrays:
    """B texts' rows -> what the model takes of them, all int32, in R lines of F tokens.

    Short rows share lines, where that is cheaper than padding.

    Args:
      mask_special: [CLS] and [SEP] are masked, but of a row of nothing else.

    Returns:
      `input_ids`, `input_mask`, `segment_ids`, `position_ids`, which start at 0 in each row, and
      `text`, the number of the row that a token is of, from 1 (0 is padding): each [R, F].
      `line`, `start` and `length`, where a row is: each [B].
    """
    lengths = np.array([len(row.input_ids) for row in rows], np.int32)
    shared = _lines(lengths.tolist())
    shape = len(shared), _width(shared, lengths.tolist())
    batch = {name: np.zeros(shape, np.int32) for name in OF_TOKENS}
    line, start = np.zeros((2, len(rows)), np.int32)
    for number, together in enumerate(shared):
        begin = 0
        for i in together:
            row, place = rows[i], slice(begin, begin + lengths[i])
            positions = np.arange(lengths[i])
            batch["input_ids"][number, place] = row.input_ids
            batch["input_mask"][number, place] = _mask(row, mask_special)
            batch["segment_ids"][number, place] = positions >= row.first
            batch["position_ids"][number, place] = positions
            batch["text"][number, place] = i + 1
            line[i], start[i] = number, begin
            begin = place.stop
    return {**batch, "line": line, "start": start, "length": lengths}


def _lines(lengths: list[int]) -> list[list[int]]:
    """Which rows share a line: of some numbers of lines, the one that is cheapest to compute."""
    total, longest = sum(lengths), max(lengths)
    counts = {max(1, round(total / (longest * stretch))) for stretch in _STRETCHES}
    counts.add(len(lengths))

    def cost(lines: list[list[int]]) -> float:
        width = _width(lines, lengths)
        return len(lines) * width * (1 + width / _DEAR_LENGTH)

    return min((_balanced(lengths, count) for count in sorted(counts)), key=cost)


def _width(lines: list[list[int]], lengths: list[int]) -> int:
    """Tokens of the fullest line."""
    return max(sum(lengths[i] for i in line) for line in lines)


def _balanced(lengths: list[int], count: int) -> list[list[int]]:
    """The rows on so many lines: the longest first, each on the line that is shortest so far."""
    lines: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        load, number = heap[0]
        lines[number].append(i)
        heapq.heapreplace(heap, (load + lengths[i], number))
    return lines


def _mask(row: Row, mask_special: bool) -> np.ndarray:
    """1 for each token that is seen and pooled."""
    mask = np.ones(len(row.input_ids), np.int32)
    if mask_special and row.special and len(mask) > 2:
        mask[[0, row.first - 1, -1]] = 0
    return mask
