"""Texts with entities as spans of characters: one JSON object a line, in one of two forms.

    {"text": "Ada met Bob.", "label": [{"start": 0, "end": 3, "label": "PER"}, [8, 11, "PER"]]}
    {"text": "叶老桂说", "label": {"name": {"叶老桂": [[0, 2]]}}}

The first, `jsonl`, is common in annotation tools and Hugging Face's data sets: `end` is the
position behind the span, and a span is an object or a list. Doccano's exports are of this form,
with `start_offset` and `end_offset`, under "label", "labels" or "entities". The second form is
that of CLUENER (Xu et al. 2020): the second number is the last position of the span.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

from bert_tf import text_rules
from bert_tf.data.json_lines import JsonObject, as_text, json_rows, member
from bert_tf.data.text_files import BadRow, OnBad, refuse
from bert_tf.entity_metrics import Entity
from bert_tf.tokenization import Piece

Span = tuple[int, int]  # first character, character behind

LABEL_COLUMN = "label"
_SYNONYMS = ("labels", "entities")  # of it, where a row does not have it


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text and, where they were read, its entities by characters, in order."""

    line: int
    text: str
    entities: tuple[Entity, ...] | None
    row: JsonObject  # as the file has it


def read_spans(
    path: str,
    form: str,
    *,
    text_column: str = "text",
    label_column: str | None = LABEL_COLUMN,
    on_bad: OnBad = refuse,
    encoding: str | None = None,
) -> Iterator[AnnotatedText]:
    """The texts of a file.

    Args:
      form: one of `FORMS`.
      label_column: None if entities are not to be read.

    Raises: ValueError naming the file if it cannot be read, and file and line unless `on_bad` takes
      it: no JSON object, an empty text, a span that is empty, out of range, overlaps another or
      does not hold the text that CLUENER's form repeats.
    """
    for line, row in json_rows(path, on_bad, encoding):
        try:
            text = as_text(member(row, text_column), text_column)
            found = None
            if label_column is not None:
                value = member(row, label_key(row, label_column))
                found = _checked(FORMS[form].entities(value, text), text)
        except _BadSpan as error:
            key = label_key(row, label_column or "")
            on_bad(BadRow(path, line, f"column {key!r}: {error}"))
        except ValueError as error:
            on_bad(BadRow(path, line, str(error)))
        else:
            yield AnnotatedText(line, text, found, row)


def label_key(row: JsonObject, label_column: str) -> str:
    """Return the key of a row's entities: for "label" also a synonym that the row has instead."""
    if label_column in row or label_column != LABEL_COLUMN:
        return label_column
    return next((name for name in _SYNONYMS if name in row), label_column)


class _BadSpan(ValueError):
    """What is wrong with a row's entities."""


def _checked(found: Iterable[Entity], text: str) -> tuple[Entity, ...]:
    entities = tuple(sorted(set(found), key=lambda entity: entity[1:]))
    for kind, start, end in entities:
        if not 0 <= start < end <= len(text):
            problem = f"the {kind} from {start} to before {end} is no part"
            raise _BadSpan(f"{problem} of the text's {len(text)} characters")
    for one, other in pairwise(entities):
        if other[1] < one[2]:
            raise _BadSpan(
                f"the {one[0]} {text[slice(*one[1:])]!r} and the {other[0]} "
                f"{text[slice(*other[1:])]!r} overlap; a word has one tag, so keep one of them"
            )
    return entities


def _plain(value: object, text: str) -> Iterator[Entity]:
    del text
    if isinstance(value, dict):
        raise _BadSpan("an object of types is CLUENER's form; use --task_name=cluener")
    for span in _of(list, value, "a list of spans"):
        if isinstance(span, dict):
            ends = ("start_offset", "end_offset") if "start_offset" in span else ("start", "end")
            span = [span.get(key) for key in (*ends, "label")]
        if len(_of(list, span, "a span as object or list")) != 3:
            raise _BadSpan(f"expected start, end and label, got {span!r:.60}")
        yield _kind(span[2]), _position(span[0]), _position(span[1])


def _cluener(value: object, text: str) -> Iterator[Entity]:
    if isinstance(value, list):
        raise _BadSpan("CLUENER's form is an object of types; for a list use --task_name=jsonl")
    for kind, mentions in _of(dict, value, "an object of types").items():
        for surface, spans in _of(dict, mentions, "an object of mentions").items():
            for span in _of(list, spans, "a list of spans"):
                if len(_of(list, span, "a list of two positions")) != 2:
                    raise _BadSpan(f"expected first and last position, got {span!r:.60}")
                start, end = _position(span[0]), _position(span[1]) + 1
                if 0 <= start < end <= len(text) and text[start:end] != surface:
                    raise _BadSpan(f"{surface!r} is {text[start:end]!r} in the text")
                yield _kind(kind), start, end


def _of(kind: type, value: Any, what: str) -> Any:
    if not isinstance(value, kind):
        raise _BadSpan(f"expected {what}, got {value!r:.60}")
    return value


def _position(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _BadSpan(f"a position must be a whole number, not {value!r:.60}")
    return value


def _kind(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or value != value.strip() or not value:
        problem = "a label must be printable text without blanks around it"
        raise _BadSpan(f"{problem}, not {value!r:.60}")
    return value


def _to_plain(found: Sequence[Entity], text: str) -> object:
    return [
        {"start": start, "end": end, "label": kind, "text": text[start:end]}
        for kind, start, end in found
    ]


def _to_cluener(found: Sequence[Entity], text: str) -> object:
    result: dict[str, dict[str, list[list[int]]]] = {}
    for kind, start, end in found:
        mentions = result.setdefault(kind, {})
        mentions.setdefault(text[start:end], []).append([start, end - 1])
    return result


@dataclass(frozen=True)
class _Form:
    """`entities` reads the value of a row's label column, `value` makes it; both with the text."""

    entities: Callable[[object, str], Iterable[Entity]]
    value: Callable[[Sequence[Entity], str], object]


FORMS = {"jsonl": _Form(_plain, _to_plain), "cluener": _Form(_cluener, _to_cluener)}


def span_predictions(
    form: str, label_column: str, predicted: Iterable[tuple[AnnotatedText, Sequence[Entity]]]
) -> str:
    """Return a JSON object a line: the file's, with the predicted entities in its label column."""
    result = []
    for text, found in predicted:
        key = label_key(text.row, label_column)
        row = {**text.row, key: FORMS[form].value(found, text.text)}
        line = json.dumps(row, ensure_ascii=False)
        # Another column may hold half of a surrogate pair, which no UTF-8 file can.
        result.append((line if _is_utf8(line) else json.dumps(row)) + "\n")
    return "".join(result)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Tokenizer(Protocol):
    """What finding words asks of a tokenizer."""

    tokenization: ClassVar[str]

    def tokenize_with_offsets(self, text: str) -> list[Piece]: ...


def word_spans(text: str, tokenizer: Tokenizer) -> list[Span]:
    """Where the words of a text are: those of BasicTokenizer, so a Chinese character is a word.

    They are in order, and do not overlap. What the tokenizer deletes, as zero-width characters, is
    part of no word unless inside of one.
    """
    if tokenizer.tokenization == "sentencepiece":  # whose pieces do not tell words apart
        words = text_rules.words(text, do_lower_case=False)
        return [(word[0][1], word[-1][1] + 1) for word in words]
    spans: list[Span] = []
    for token, start, end in tokenizer.tokenize_with_offsets(text):
        # Pieces of one character overlap, as the letters that a Hangul syllable is taken apart to.
        if spans and (token.startswith("##") or start < spans[-1][1]):
            first, last = spans[-1]
            spans[-1] = (min(first, start), max(last, end))
        else:
            spans.append((start, end))
    return spans


def align(found: Sequence[Entity], words: Sequence[Span]) -> tuple[list[Entity], list[Entity], int]:
    """Entities by characters -> by words.

    An entity that cuts a word is widened to whole words, unless another has one of them already.

    Returns: the entities by words; the entities by characters, without what is in no word (as
      blanks at the edges) where they cut no word; how many cut a word or hold none.
    """
    starts, ends = [start for start, _ in words], [end for _, end in words]
    by_words: list[Entity] = []
    by_characters: list[Entity] = []
    misaligned = 0
    for kind, start, end in found:
        first, behind = bisect_right(ends, start), bisect_left(starts, end)
        if first < behind and start <= starts[first] and ends[behind - 1] <= end:
            by_characters.append((kind, starts[first], ends[behind - 1]))
        else:
            by_characters.append((kind, start, end))
            misaligned += 1
        first = max(first, by_words[-1][2] if by_words else 0)
        if first < behind:
            by_words.append((kind, first, behind))
    return by_words, by_characters, misaligned
