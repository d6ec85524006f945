"""What a tagger says of a file with tags, beside the truth: errors, and whether it has learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_tf.data.tagging import TaggedFile, TaggingExample
from bert_tf.entity_metrics import entities
from bert_tf.reporting.parts import Section, Table, Text, number, worst_errors
from bert_tf.reporting.predictions import labels_of_words

Labels = Sequence[Sequence[str]]  # of the words of each sentence


def collapse(file: TaggedFile, predicted: Labels) -> str | None:
    """Return why a tagger has collapsed, or None if it has not.

    It has if it gives every word the same label although there are others.
    """
    found = Counter(label for labels in predicted for label in labels)
    there = Counter(label for example in file.examples for label in example.labels or ())
    if len(found) > 1 or len(there) < 2:
        return None
    ((label, words),) = found.items()
    reason = f"it gives all {words:,} words the label {label!r}"
    if not file.tag_set.has_entities:
        return f"{reason}, which {there[label]:,} of them have"
    expected = sum(len(entities(example.labels or ())) for example in file.examples)
    return f"{reason}, and finds none of the {expected:,} entities" if label == "O" else reason


def sections(file: TaggedFile, predicted: Labels, scores: Mapping[str, Any]) -> Sequence[Section]:
    """Return what the report says of predicted labels; `scores` are those of `file.scores`."""
    both = list(zip(file.examples, predicted, strict=True))
    if file.tag_set.has_entities:
        found = _types(scores)
        wrong = [_wrong_entities(example, labels) for example, labels in both]
        what = "sentences with a wrong entity, by how many were missed or wrongly found."
    else:
        found = _words(both)
        wrong = [sum(map(str.__ne__, e.labels or (), p)) for e, p in both]
        what = "sentences with a wrong label, by how many words have one."

    def row(i: int) -> tuple[Any, ...]:
        example, labels = both[i]
        cells = (_shown(file, example, x) for x in (example.labels or (), labels))
        place = f"{file.path}:{example.line}"
        return (place, Text.of(example.text), *map(Text.of, cells), wrong[i])

    header = ("place", "text", "true", "predicted", "wrong")
    return [*found, *worst_errors(what, header, wrong, row)]


def _types(scores: Mapping[str, Any]) -> list[Section]:
    rows = [
        (kind, *(number(of_kind[name]) for name in ("precision", "recall", "f1", "support")))
        for kind, of_kind in [*scores.get("types", {}).items(), ("all", scores)]
    ]
    header = ("type", "precision", "recall", "F1", "support")
    intro = "An entity is right if its type, its first and its last word are right."
    return [Section("Entities", intro, tables=[Table("Scores of each type", header, rows)])]


def _words(both: Sequence[tuple[TaggingExample, Sequence[str]]]) -> list[Section]:
    expected = [label for example, _ in both for label in example.labels or ()]
    predicted = [label for _, labels in both for label in labels]
    names = sorted({*expected, *predicted})
    ids = {name: i for i, name in enumerate(names)}
    as_ids = (np.array([ids[label] for label in labels]) for labels in (expected, predicted))
    return labels_of_words(names, *as_ids)


def _wrong_entities(example: TaggingExample, labels: Sequence[str]) -> int:
    """Return how many entities were missed or wrongly found, by characters where the file is."""
    if example.source is not None:
        return len(set(example.entities or ()) ^ set(example.by_characters(labels)))
    return len(set(entities(example.labels or ())) ^ set(entities(labels)))


def _shown(file: TaggedFile, example: TaggingExample, labels: Sequence[str]) -> str:
    """Return the entities that labels say, or else the labels, for a cell."""
    if not file.tag_set.has_entities:
        return " ".join(labels)
    found = entities(labels)
    return "; ".join(f"{kind}: {' '.join(example.words[a:b])}" for kind, a, b in found) or "none"
