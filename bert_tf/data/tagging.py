"""Tagging tasks: named entities, parts of speech, word segmentation. Without TensorFlow.

A task finds the labels of its training file, and reads any of its files with them:

    task = TaggingTask("conll")
    tag_set = task.tag_set("train.txt")
    dev = task.read("dev.txt", tag_set, tokenizer)
    print(dev)                          # what was read and repaired
    dev.scores(predicted)               # f1, precision, recall, ...
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bert_tf import filesystem
from bert_tf.data import entity_spans, tag_schemes, tagged_text
from bert_tf.data.entity_spans import AnnotatedText, Span
from bert_tf.data.json_lines import json_rows
from bert_tf.data.tag_schemes import TagSet
from bert_tf.data.tagged_text import Sentence
from bert_tf.data.text_files import BadRow, OnBad, did_you_mean, listed, refuse, tsv_rows
from bert_tf.entity_metrics import Entity, entities, entity_scores, tag_accuracy

# The form of a task's files, and how they are called behind `train`, `dev` or `test`.
_FILES: Mapping[str, tuple[str, ...]] = {
    "conll": (".conll", ".txt"),
    "tsv": (".tsv",),
    "jsonl": (".jsonl",),
    "cluener": (".json",),
}
# What CoNLL-2002 and -2003 call their files behind the language.
_SHARED_TASK = {"train": "train", "dev": "testa", "test": "testb"}
_LANGUAGES = ("eng", "deu", "esp", "ned")
KINDS = tuple(_FILES)
ENDINGS = tuple(ending for endings in _FILES.values() for ending in endings)
_BY_CHARACTERS = tuple(entity_spans.FORMS)
_LONG_SENTENCE = 1000  # words; beyond all that people write
_SHOWN = 10  # tags listed one by one


def half_window(max_seq_length: int) -> int:
    """The `doc_stride` by default: half of the pieces of a row, without [CLS] and [SEP]."""
    return max(1, (max_seq_length - 2) // 2)


@dataclass(frozen=True, slots=True)
class TaggingExample:
    """One sentence.

    Attributes:
      line: where it begins in its file, from 1.
      words: what is tagged.
      labels: the model's label of each word; None if the file was read without tags.
      source: in a file with entities by characters, the text as it is there.
      spans: where the words are in that text.
      entities: its entities by characters, as far as they can be compared with predictions.
      repaired, misaligned, skipped: how many of its tags, entities and lines; see `TaggedFile`.
    """

    line: int
    words: tuple[str, ...]
    labels: tuple[str, ...] | None
    source: AnnotatedText | None = None
    spans: tuple[Span, ...] = ()
    entities: tuple[Entity, ...] | None = None
    repaired: int = 0
    misaligned: int = 0
    skipped: int = 0

    @property
    def text(self) -> str:
        """The text as it is in its file, or the words with blanks in between."""
        return self.source.text if self.source else " ".join(self.words)

    def by_characters(self, labels: Sequence[str]) -> list[Entity]:
        """The entities that these labels of its words say."""
        return [
            (kind, self.spans[start][0], self.spans[end - 1][1])
            for kind, start, end in entities(labels)
        ]


@dataclass(frozen=True)
class TaggingTask:
    """How files with tags are laid out.

    * `conll`: columns, a word a line (see `tagged_text.read_conll`).
    * `tsv`: a column of words and one of tags, a sentence a line (`tagged_text.read_tsv`).
    * `jsonl`, `cluener`: texts with entities by characters (`entity_spans`).

    Attributes:
      word_column, tag_column: of `conll`, counted from 0 or from the end below 0.
      text_column, label_column: names, of the other kinds.
      tag_scheme: of `conll` and `tsv`, one of `tag_schemes.SCHEMES`; None: detected.
      layout: of `conll`, how many columns the training file has; columns below 0 count from the
        end of these, also in a file with fewer or more.
      encoding: of the files; None for UTF-8, or UTF-16 with a byte order mark.
    """

    kind: str
    word_column: int = 0
    tag_column: int = -1
    text_column: str | None = None
    label_column: str = entity_spans.LABEL_COLUMN
    tag_scheme: str | None = None
    layout: int | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Task not found: {self.kind}.{did_you_mean(self.kind, KINDS)}")
        if self.tag_scheme is not None:
            if self.kind in _BY_CHARACTERS:
                raise ValueError(f"--tag_scheme={self.tag_scheme}: {self.kind} has no tags")
            TagSet(self.tag_scheme, ())

    def path(self, data_dir: str, split: str) -> str:
        """The file of `train`, `dev` or `test`; where there is none, what it should be called."""
        names = [split + ending for ending in _FILES[self.kind]]
        if self.kind == "conll":
            names += [f"{language}.{_SHARED_TASK[split]}" for language in _LANGUAGES]
        paths = [os.path.join(data_dir, name) for name in names]
        return next(filter(filesystem.is_file, paths), paths[0])

    def tag_set(self, path: str, on_bad: OnBad = refuse) -> TagSet:
        """The labels of a training file, and how it writes them.

        Raises: ValueError as `read`, or there are fewer than two labels.
        """
        if self.kind in _BY_CHARACTERS:
            texts = self._texts(path, True, on_bad)
            kinds = sorted({kind for text in texts for kind, _, _ in text.entities or ()})
            tags = [[f"B-{kind}" for kind in kinds]]
        else:
            tags = [list(s.tags or ()) for s in self._sentences(path, True, on_bad)]
        scheme = "IOB2" if self.kind in _BY_CHARACTERS else self.tag_scheme
        found = tag_schemes.found_tag_set(tags, scheme)
        if len(found.labels) < 2:
            raise ValueError(
                f"{path}: tagging needs two labels or more; this file has {list(found.labels)}"
            )
        return found

    def columns(self, path: str) -> int | None:
        """Return how many columns a file of `conll` has: the `layout` of those read like it.

        Raises: ValueError if the file cannot be read.
        """
        return tagged_text.conll_columns(path, self.encoding) if self.kind == "conll" else None

    def is_tagged(self, path: str) -> bool:
        """Whether a file has tags or entities, as its first line or row says.

        Raises: ValueError if the file cannot be read.
        """
        if self.kind in _BY_CHARACTERS:
            rows = json_rows(path, lambda bad: None, self.encoding)  # `read` tells of them
            return any(
                entity_spans.label_key(row, self.label_column) in row for _, row in islice(rows, 1)
            )
        if self.kind == "tsv":
            return self.label_column in next(tsv_rows(path, encoding=self.encoding))[1]
        count = tagged_text.conll_columns(path, self.encoding)
        word, tag = self._places()
        return -count <= tag < count and tag % count != word % count

    def read(
        self,
        path: str,
        tag_set: TagSet,
        tokenizer: entity_spans.Tokenizer,
        *,
        tagged: bool = True,
        evaluated: bool = False,
        on_bad: OnBad = refuse,
    ) -> TaggedFile:
        """The sentences of a file.

        Args:
          tokenizer: finds the words of texts with entities by characters.
          tagged: False for a file that may lack tags: they are not read.
          evaluated: whether tags that the model has no label for are taken; they are missed by
            every prediction, as `conlleval` counts them.
          on_bad: takes bad rows, whose sentences are then left out.

        Raises: ValueError naming the file if it is missing, holds no sentence or lacks a column,
          and file and line of a bad row: see the functions that read.
        """
        examples: list[TaggingExample] = []
        items: Iterator[Sentence | AnnotatedText] = (
            self._texts(path, tagged, on_bad)
            if self.kind in _BY_CHARACTERS
            else self._sentences(path, tagged, on_bad)
        )
        for item in items:
            try:
                if isinstance(item, Sentence):
                    examples.append(_tagged_example(item, tag_set, evaluated))
                else:
                    examples.append(_annotated_example(item, tag_set, evaluated, tokenizer))
            except ValueError as error:
                on_bad(BadRow(path, item.line, str(error)))
        if not examples:
            raise ValueError(f"{path}: no sentences in this file")
        return TaggedFile(path, self, tag_set, examples)

    def _sentences(self, path: str, tagged: bool, on_bad: OnBad) -> Iterator[Sentence]:
        if self.kind == "tsv":
            return tagged_text.read_tsv(
                path,
                text_column=self.text_column,
                label_column=self.label_column if tagged else None,
                on_bad=on_bad,
                encoding=self.encoding,
            )
        count = tagged_text.conll_columns(path, self.encoding)
        if tagged and self.layout and 0 < count < self.layout and not self.is_tagged(path):
            raise ValueError(
                f"{path}: there are {count} columns, but {self.layout} in the training file, by "
                f"which the tags are in column {self._places()[1]} (counted from 0); add the "
                "tags, or give their column with --tag_column"
            )
        word, tag = self._places()
        return tagged_text.read_conll(
            path,
            word_column=word,
            tag_column=tag if tagged else None,
            on_bad=on_bad,
            encoding=self.encoding,
        )

    def _places(self) -> tuple[int, int]:
        """The columns of words and tags, counted from 0 as far as `layout` is known."""
        count = self.layout or 0
        word, tag = (
            column % count if -count <= column < count else column
            for column in (self.word_column, self.tag_column)
        )
        return word, tag

    def _texts(self, path: str, tagged: bool, on_bad: OnBad) -> Iterator[AnnotatedText]:
        return entity_spans.read_spans(
            path,
            self.kind,
            text_column=self.text_column or "text",
            label_column=self.label_column if tagged else None,
            on_bad=on_bad,
            encoding=self.encoding,
        )


def _tagged_example(sentence: Sentence, tag_set: TagSet, evaluated: bool) -> TaggingExample:
    labels, repaired = None, 0
    if sentence.tags is not None:
        labels = tuple(tag_set.to_labels(sentence.tags, evaluated))
        repaired = tag_schemes.repairs(sentence.tags, tag_set.scheme)
    return TaggingExample(
        sentence.line, sentence.words, labels, repaired=repaired, skipped=sentence.skipped
    )


def _annotated_example(
    text: AnnotatedText, tag_set: TagSet, evaluated: bool, tokenizer: entity_spans.Tokenizer
) -> TaggingExample:
    spans = entity_spans.word_spans(text.text, tokenizer)
    if not spans:
        raise ValueError("there is no word in the text")
    words = tuple(text.text[start:end] for start, end in spans)
    if text.entities is None:
        return TaggingExample(text.line, words, None, text, tuple(spans))
    by_words, by_characters, misaligned = entity_spans.align(text.entities, spans)
    labels = tag_set.to_labels(tag_schemes.scheme_tags(by_words, len(spans), "IOB2"), evaluated)
    return TaggingExample(
        text.line,
        words,
        tuple(labels),
        text,
        tuple(spans),
        tuple(by_characters),
        misaligned=misaligned,
    )


def rarest_labels(examples: Sequence[TaggingExample]) -> list[str]:
    """Return for each sentence that of its labels which the fewest of them have."""
    counts = Counter(label for example in examples for label in set(example.labels or ()))
    return [min(e.labels or ("",), key=lambda label: (counts[label], label)) for e in examples]


@dataclass(frozen=True)
class TaggedFile:
    """The sentences of a file; `str` tells what was read."""

    path: str
    task: TaggingTask
    tag_set: TagSet
    examples: Sequence[TaggingExample]

    @property
    def repaired(self) -> int:
        """How many tags their scheme would not write so, and were read as `conlleval` reads them.

        An `I-` that continues nothing begins an entity.
        """
        return sum(example.repaired for example in self.examples)

    @property
    def misaligned(self) -> int:
        """How many entities by characters cut a word or hold none; see `entity_spans.align`."""
        return sum(example.misaligned for example in self.examples)

    @property
    def words(self) -> int:
        """How many words there are."""
        return sum(len(example.words) for example in self.examples)

    @property
    def unknown(self) -> Counter[str]:
        """The labels of words that the model does not have, and how many of each there are."""
        known = set(self.tag_set.labels)
        every = (label for example in self.examples for label in example.labels or ())
        return Counter(label for label in every if label not in known)

    def __str__(self) -> str:
        parts = [f"{self.path}: {len(self.examples)} sentences, {self.words} words"]
        if self.task.kind not in _BY_CHARACTERS:
            scheme = self.tag_set.scheme
            parts.append("a class for each tag" if scheme == "none" else f"{scheme} tags")
        if self.repaired:
            parts.append(f"{self.repaired} tags out of order, read as conlleval reads them")
        if self.misaligned:
            parts.append(f"{self.misaligned} entities do not begin and end with a word")
        if skipped := sum(example.skipped for example in self.examples):
            parts.append(f"{skipped} lines with CoNLL-U's ranges and empty nodes skipped")
        return ", ".join(parts)

    def doubts(self) -> list[str]:
        """Return what was read as it is, but is hardly meant so."""
        found = []
        count = len(self.examples)
        single = sum(len(example.words) == 1 for example in self.examples)
        if 2 * single > count:
            between = {
                "conll": "blank lines only between sentences",
                "tsv": "a blank between words",
            }
            hint = f"; there must be {between[self.task.kind]}" if self.task.kind in between else ""
            found.append(f"{single} of {count} sentences have one word only{hint}")
        if count == 1 and self.words > _LONG_SENTENCE:
            found.append(f"all {self.words} words are one sentence; is nothing between sentences?")
        labels = {label for example in self.examples for label in example.labels or ()}
        for label in sorted(filter(_holds_control, labels)):
            found.append(f"the class {label!r} holds a control character; what separates the tags?")
        if unknown := self.unknown:
            names = listed([f"{label} ({n})" for label, n in unknown.most_common()], _SHOWN)
            found.append(
                f"{unknown.total()} of {self.words} words have a tag that the model has not "
                f"learnt: {names}; they count as missed, and the loss leaves out their rows"
            )
        return found

    def scores(self, predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
        """How good predicted labels are, for metrics.json.

        Returns: what `entity_scores` returns, compared by characters where the file has them so,
          and `accuracy`, the share of words with the right label. Only the latter where tags have
          no scheme.
        Raises: ValueError if the file was read without tags, or the numbers of sentences or words
          differ.
        """
        labels = [example.labels for example in self.examples if example.labels is not None]
        accuracy = {"accuracy": tag_accuracy(labels, predicted)}
        if not self.tag_set.has_entities:
            return accuracy
        if self.task.kind in _BY_CHARACTERS:
            both = zip(self.examples, predicted, strict=True)
            found = [example.by_characters(labels) for example, labels in both]
            return entity_scores([e.entities or () for e in self.examples], found) | accuracy
        return entity_scores(list(map(entities, labels)), list(map(entities, predicted))) | accuracy

    def predictions(self, predicted: Sequence[Sequence[str]]) -> str:
        """The file with predicted labels in the form of its kind.

        Args:
          predicted: the labels of the words of each example.
        """
        both = list(zip(self.examples, predicted, strict=True))
        if self.task.kind in _BY_CHARACTERS:
            found = ((e.source, e.by_characters(labels)) for e, labels in both if e.source)
            return entity_spans.span_predictions(self.task.kind, self.task.label_column, found)
        tags = {example.line: self.tag_set.to_tags(labels) for example, labels in both}
        encoding = self.task.encoding
        if self.task.kind == "tsv":
            return tagged_text.tsv_predictions(self.path, tags, encoding)
        return tagged_text.conll_predictions(self.path, tags, self.task.word_column, encoding)


def _holds_control(label: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in label)
