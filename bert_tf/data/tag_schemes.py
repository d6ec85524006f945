"""How tags write down entities: IOB1, IOB2, BIOES, BILOU, BMES, or not at all. No TensorFlow.

Whatever a file uses, the model's labels are IOB2: `B-` for the first word of an entity, `I-` for
the others, `O` outside. Predictions are written in the scheme of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bert_tf.data.text_files import did_you_mean
from bert_tf.entity_metrics import Entity, entities

NO_SCHEME = "none"  # every tag is a class of its own: parts of speech

# Letters for the first, a middle, the last and a single word. In IOB1 a first word has an I as
# well, unless it comes directly behind an entity of its own type.
_LETTERS = {
    "IOB2": ("B", "I", "I", "B"),
    "IOB1": ("I", "I", "I", "I"),
    "BIOES": ("B", "I", "E", "S"),
    "BILOU": ("B", "I", "L", "U"),
    "BMES": ("B", "M", "E", "S"),
}
SCHEMES = (*_LETTERS, NO_SCHEME)


def scheme_tags(found: Iterable[Entity], length: int, scheme: str) -> list[str]:
    """The tags of `length` words with these entities, which must not overlap."""
    first, middle, last, single = _LETTERS[scheme]
    tags = ["O"] * length
    previous: tuple[str, int] | None = None  # type of the entity in front, and where it ends
    for kind, start, end in sorted(found, key=lambda entity: entity[1]):
        letters = [first, *[middle] * (end - start - 2), last] if end - start > 1 else [single]
        if scheme == "IOB1" and previous == (kind, start):
            letters[0] = "B"
        tags[start:end] = [f"{letter}-{kind}" if kind else letter for letter in letters]
        previous = (kind, end)
    return tags


def repairs(tags: Sequence[str], scheme: str) -> int:
    """How many tags differ from how the scheme writes the entities that `conlleval` reads."""
    if scheme == NO_SCHEME:
        return 0
    exact = scheme_tags(entities(tags), len(tags), scheme)
    return sum(map(str.__ne__, tags, exact))


def detect(sentences: Sequence[Sequence[str]]) -> str:
    """The scheme in which these tags need the fewest repairs.

    It is none where tags are not the letters of one, alone or with a type. Once some tags are
    letter and type, the others are mistakes and do not count.
    """
    tags = {tag for sentence in sentences for tag in sentence}
    if not any(is_tag(tag, scheme) and "-" in tag for tag in tags for scheme in _LETTERS):
        # Letters alone are mostly a segmentation's: what is both BIOES and BMES is the latter.
        candidates = [s for s in reversed(_LETTERS) if all(is_tag(tag, s) for tag in tags)]
    else:
        known = {scheme: sum(is_tag(tag, scheme) for tag in tags) for scheme in _LETTERS}
        candidates = [scheme for scheme in _LETTERS if known[scheme] == max(known.values())]
    needed = {s: sum(repairs(tags, s) for tags in sentences) for s in candidates}
    return min(candidates, key=needed.__getitem__, default=NO_SCHEME)


def is_tag(tag: str, scheme: str) -> bool:
    """Whether a tag can stand in a file of this scheme."""
    if scheme == NO_SCHEME:
        return True
    return tag == "O" or bool(re.fullmatch(f"[B{''.join(_LETTERS[scheme])}](-.+)?", tag))


@dataclass(frozen=True)
class TagSet:
    """The labels of a model, and the scheme in which files write them.

    Attributes:
      scheme: one of `SCHEMES`.
      labels: in the order of their ids; IOB2 unless the scheme is none.
    """

    scheme: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown tag scheme {self.scheme!r}; use {', '.join(SCHEMES)}")

    @property
    def has_entities(self) -> bool:
        return self.scheme != NO_SCHEME

    def to_labels(self, tags: Sequence[str], evaluated: bool = False) -> list[str]:
        """Tags as a file has them -> labels.

        Args:
          evaluated: whether a tag without a label is taken. It becomes the label that it would
            have, or stays as it is where it begins no entity, so that no prediction is right.

        Raises:
          ValueError: a tag has no label, unless `evaluated`.
        """
        labels = list(tags)
        if self.has_entities:
            labels = scheme_tags(entities(tags), len(tags), "IOB2")
        for position, (label, tag) in enumerate(zip(labels, tags, strict=True)):
            fits = is_tag(tag, self.scheme)
            if evaluated:
                labels[position] = tag if label == "O" and not fits else label
            elif not fits:
                form = f"{self.scheme} has O and the letters {_letters(self.scheme)}, with a type"
                raise ValueError(f"unknown tag {tag!r}: {form}")
            elif label not in self.labels:
                raise ValueError(f"unknown tag {tag!r}.{did_you_mean(label, self.labels)}")
        return labels

    def to_tags(self, labels: Sequence[str]) -> list[str]:
        """Labels that were predicted -> tags as a file has them."""
        if not self.has_entities:
            return list(labels)
        return scheme_tags(entities(labels), len(labels), self.scheme)


def found_tag_set(sentences: Sequence[Sequence[str]], scheme: str | None = None) -> TagSet:
    """The labels of these sentences' tags, sorted, O first; the scheme is detected if not given.

    A type has a label for its first word and one for the others, even if no entity has others.
    """
    scheme = scheme or detect(sentences)
    tags = {tag for sentence in sentences for tag in sentence if is_tag(tag, scheme)}
    if scheme != NO_SCHEME:
        kinds = {tag.partition("-")[2] for tag in tags - {"O"}}
        outside = {"O"} if "O" in tags or any(kinds) else set()
        tags = outside.union(*(scheme_tags([(kind, 0, 2)], 2, "IOB2") for kind in kinds))
    return TagSet(scheme, tuple(sorted(tags, key=lambda tag: (tag != "O", tag))))


def tag_set_of(labels: Sequence[str], scheme: str | None = None) -> TagSet:
    """The labels of a model; without a scheme IOB2 if all of them can be, else none."""
    iob2 = all(is_tag(label, "IOB2") for label in labels)
    return TagSet(scheme or ("IOB2" if iob2 else NO_SCHEME), tuple(labels))


def _letters(scheme: str) -> str:
    return ", ".join(sorted({"B", *_LETTERS[scheme]}))
