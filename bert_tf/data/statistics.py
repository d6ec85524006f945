"""A short report on the data before training: what is in it, and what looks wrong with it.

A `SplitStatistics` is filled while the features of a split are written, from token ids that are
made anyway; `warnings` then compares the splits. `label_warnings` needs the examples alone.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bert_tf.data.examples import InputExample, label_names
from bert_tf.data.features import PackedExample
from bert_tf.data.text_files import listed

_FEW_ROWS = 20  # of fewer rows no order and no balance is worth a word
_MUCH_TRUNCATED = 10  # percent of the examples
_MANY_UNKNOWN = 2  # percent of the pieces
# Measured with Google's vocabularies: 1.0 to 1.15 in a vocabulary's own language, up to 1.5 in one
# of the many of the multilingual vocabulary; German with an English one 2.1 to 2.5, English with
# the Chinese one 1.7. Technical English reaches 1.5.
_PIECES_PER_WORD = 1.6
_FEW_WORDS = 100  # fewer tell nothing about the language
_IMBALANCE = 10  # rows of the most frequent label for one of the rarest
_NAMED = 10  # labels that a line lists
_SHOWN = 40  # characters of a label
# Words, numbers and marks, as far as a count asks for; Chinese characters are words by themselves.
_WORD = re.compile(r"[^\W\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+|\S")


@dataclass
class SplitStatistics:
    """Counts over the examples of one split. Texts are remembered as 64-bit hashes."""

    name: str  # of the split: train, dev, ...
    problem_type: str
    labelled: bool = True  # whether its labels are known
    rows_of: list[int] = field(default_factory=list)  # rows of features, for each example
    empty: int = 0  # examples without a piece
    words: int = 0
    pieces: int = 0  # before anything is cut
    unknown: int = 0  # pieces that are [UNK]
    truncated: int = 0  # examples of which pieces are in no row
    cut: int = 0  # those pieces
    label_rows: Counter[str] = field(default_factory=Counter)  # label -> examples
    label_changes: int = 0  # examples with another label than the one before
    repeated: int = 0  # examples with the texts of an earlier one
    contradicting: int = 0  # those of them with another label
    texts: dict[int, str] = field(default_factory=dict)  # hash of the texts -> first label
    _last: str | None = None

    def add(self, example: InputExample, packed: PackedExample) -> None:
        """Counts one example."""
        self.rows_of.append(len(packed.rows))
        self.empty += not packed.pieces
        self.words += sum(
            len(_WORD.findall(text or "")) for text in (example.text_a, example.text_b)
        )
        self.pieces += packed.pieces
        self.unknown += packed.unknown
        self.truncated += packed.cut > 0
        self.cut += packed.cut
        key = hash((example.text_a, example.text_b))
        if key in self.texts:
            self.repeated += 1
            self.contradicting += self.labelled and self.texts[key] != example.label
        self.texts.setdefault(key, example.label)
        if not self.labelled or self.problem_type == "regression":
            return
        names = [example.label]
        if self.problem_type == "multilabel":
            names = label_names(example.label) or ["(none)"]
        self.label_rows.update(names)
        self.label_changes += self._last not in (None, example.label)
        self._last = example.label

    def numbers(self) -> dict[str, Any]:
        """What metrics.json gets."""
        return {
            "examples": len(self.rows_of),
            "rows": sum(self.rows_of),
            "labels": dict(sorted(self.label_rows.items())),
            "truncated_percent": _percent(self.truncated, len(self.rows_of)),
            "cut_pieces": self.cut,
            "empty": self.empty,
            "pieces_per_word": round(self.pieces / self.words, 2) if self.words else None,
            "unknown_percent": _percent(self.unknown, self.pieces),
            "repeated": self.repeated,
        }

    def __str__(self) -> str:
        """One line, and one more with the labels."""
        count = len(self.rows_of)
        windows = f" in {sum(self.rows_of)} windows" if sum(self.rows_of) > count else ""
        text = (
            f"{self.name}: {count} examples{windows}, "
            f"{self.truncated} ({_percent(self.truncated, count)}%) truncated "
            f"({self.cut} of {self.pieces} pieces cut), "
            f"{_percent(self.unknown, self.pieces)}% of the pieces [UNK]"
        )
        if self.empty:
            text += f", {self.empty} without text"
        if self.label_rows:
            named = [f"{label} {n}" for label, n in self.label_rows.most_common()]
            text += f"\n  labels: {listed(named, _NAMED)}"
        return text


def warnings(
    training: SplitStatistics, dev: SplitStatistics | None, labels: Sequence[str]
) -> list[str]:
    """What is worth a warning, a sentence each.

    Args:
      labels: all classes of the task; none for a regression.
    """
    found = [*_of_one(training), *(_of_one(dev) if dev else ()), *_of_labels(training, labels)]
    if dev:
        shared = training.texts.keys() & dev.texts.keys()
        if shared:
            other = sum(training.texts[key] != dev.texts[key] for key in shared)
            found.append(
                f"{len(shared)} texts of {dev.name} are in {training.name} too ({other} of them "
                "with another label): the scores will look better than they are"
            )
    return found


def label_warnings(examples: Sequence[InputExample], problem_type: str) -> list[str]:
    """What is worth a warning about the labels of a training file, a sentence each.

    Labels that differ in case, blanks or the form of a number only; and so many of them that they
    are hardly labels.
    """
    if problem_type == "regression":
        return []
    first: dict[str, InputExample] = {}
    counts: Counter[str] = Counter()
    for example in examples:
        several = problem_type == "multilabel"
        for name in label_names(example.label) if several else [example.label]:
            counts[name] += 1
            first.setdefault(name, example)
    alike: dict[object, list[str]] = defaultdict(list)
    for name, _ in counts.most_common():
        alike[_plain(name)].append(name)
    found = [
        f"{first[name].file}:{first[name].line}: the label {name!r} (rows: {counts[name]}) is a "
        f"class of its own beside {names[0]!r} (rows: {counts[names[0]]}). "
        f"Did you mean {names[0]!r}?"
        for names in alike.values()
        for name in names[1:]
    ]
    if len(found) > _NAMED:
        found[_NAMED:] = [f"{len(found) - _NAMED} more labels are like another one"]
    if len(examples) >= _FEW_ROWS and 2 * len(counts) > len(examples):
        name = max(counts, key=len)
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        found.append(
            f"there are {len(counts)} labels in {len(examples)} examples, such as {shown!r}: is "
            "this the column of the labels, and not that of the texts?"
        )
    return found


def _plain(label: str) -> object:
    """The label without what is easily written in two ways; of a number its value."""
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _of_one(split: SplitStatistics) -> list[str]:
    found, count = [], len(split.rows_of)
    if _percent(split.truncated, count) >= _MUCH_TRUNCATED:
        found.append(
            f"{_percent(split.truncated, count)}% of {split.name} is truncated; a larger "
            "--max_seq_length, or --long_text=head_tail or windows, keeps more"
        )
    if _percent(split.unknown, split.pieces) >= _MANY_UNKNOWN:
        found.append(
            f"{_percent(split.unknown, split.pieces)}% of the pieces of {split.name} are [UNK]: "
            "the vocabulary does not fit the text; check the language, and --do_lower_case"
        )
    elif split.words >= _FEW_WORDS and split.pieces > _PIECES_PER_WORD * split.words:
        found.append(
            f"a word of {split.name} is {split.pieces / split.words:.1f} pieces on average; in the "
            "language of the vocabulary 1.0 to 1.2 are usual: a model for the language or the "
            "field of these texts may do better"
        )
    if split.contradicting:
        found.append(
            f"{split.contradicting} examples of {split.name} repeat the texts of another one "
            "with another label"
        )
    return found


def _of_labels(split: SplitStatistics, labels: Sequence[str]) -> list[str]:
    count, found = len(split.rows_of), []
    if absent := [label for label in labels if not split.label_rows[label]]:
        found.append(f"no example of {split.name} is labelled {listed(absent, _NAMED)}")
    if split.problem_type != "classification" or count < _FEW_ROWS or len(split.label_rows) < 2:
        return found
    if split.label_changes == len(split.label_rows) - 1:
        found.append(
            f"{split.name} is sorted by label; every epoch is shuffled as a whole, so this does "
            "no harm here"
        )
    (most, most_rows), *_, (least, least_rows) = split.label_rows.most_common()
    if most_rows >= _IMBALANCE * least_rows:
        found.append(
            f"{split.name} has {most_rows} examples of {most} and {least_rows} of {least}; "
            "accuracy alone says little, --class_weights=balanced may help"
        )
    return found


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
