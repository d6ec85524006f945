"""Entities in sequences of tags, and how many of them were found. Without TensorFlow.

An entity is found if its type, its first and its last word are right, as the CoNLL-2000 and -2003
shared tasks score it (Tjong Kim Sang and De Meulder 2003, their program `conlleval`); the values
are those of the `seqeval` package in its default mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

Entity = tuple[str, int, int]  # type ("" where tags have none), first position, position behind

# How schemes beside B, I, E and S call a middle, a last and a single word.
_PREFIXES = {"M": "I", "L": "E", "U": "S"}


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, in order.

    Tags are `O`, `B-type`, `I-type`, `E-type`, `S-type`, or the letters alone; `M` is read as `I`,
    `L` as `E` and `U` as `S`. As in `conlleval`, no sequence is wrong: an entity begins also where
    an `I` or `E` has no entity of its type to continue, and ends also where nothing continues it;
    any other letter is read as `I` where it has a type, else as `O`.
    """
    found: list[Entity] = []
    kind, start, is_open = "", 0, False
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, tag_kind = tag.partition("-")
        prefix = _PREFIXES.get(prefix, prefix)
        if prefix not in ("B", "I", "E", "S"):
            prefix = "I" if tag_kind and prefix != "O" else "O"
        continues = is_open and prefix in ("I", "E") and tag_kind == kind
        if is_open and not continues:
            found.append((kind, start, position))
        if prefix == "O":
            is_open = False
            continue
        if not continues:
            kind, start = tag_kind, position
        is_open = prefix in ("B", "I")
        if not is_open:
            found.append((kind, start, position + 1))
    return found


def entity_scores(
    expected: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> dict[str, Any]:
    """Precision, recall and F1 of the entities of many sentences.

    Returns: `f1`, `precision` and `recall` over all entities, `support` (how many there are) and,
      where entities have types, `types`: the same four for each type, by name. A value without
      anything to divide by is 0.
    Raises: ValueError if there are no sentences or not as many of both.
    """
    _check_lengths(expected, predicted, "sentences")
    there: Counter[str] = Counter()
    given: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for gold, guess in zip(expected, predicted, strict=True):
        there.update(kind for kind, _, _ in set(gold))
        given.update(kind for kind, _, _ in set(guess))
        right.update(kind for kind, _, _ in set(gold) & set(guess))
    scores: dict[str, Any] = _f1(right.total(), given.total(), there.total())
    kinds = sorted(kind for kind in {*there, *given} if kind)
    if kinds:
        scores["types"] = {kind: _f1(right[kind], given[kind], there[kind]) for kind in kinds}
    return scores


def _f1(right: int, given: int, there: int) -> dict[str, float]:
    return {
        "f1": 2 * right / (given + there) if given + there else 0.0,
        "precision": right / given if given else 0.0,
        "recall": right / there if there else 0.0,
        "support": there,
    }


def tag_accuracy(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Share of the words of all sentences that have the right tag.

    Raises: ValueError if there are no words or not as many of both.
    """
    _check_lengths(expected, predicted, "sentences")
    right = words = 0
    for gold, guess in zip(expected, predicted, strict=True):
        _check_lengths(gold, guess, "words")
        right += sum(map(str.__eq__, gold, guess))
        words += len(gold)
    return right / words


def _check_lengths(expected: Sequence[object], predicted: Sequence[object], what: str) -> None:
    if len(expected) != len(predicted) or not len(expected):
        raise ValueError(
            f"{len(expected)} {what} and predictions for {len(predicted)}; there must be as many "
            "of each, and at least one"
        )
