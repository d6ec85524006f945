"""A short report on the data before training: what is in it, and what looks wrong with it.

A `SplitStatistics` is filled while the features of a split are written, from token ids that are
made anyway; `warnings` then compares the splits.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bert_tf.data.examples import InputExample, label_names
from bert_tf.data.features import PackedExample

_FEW_ROWS = 20  # of fewer rows no order and no balance is worth a word
_MUCH_TRUNCATED = 10  # percent of the examples
_MANY_UNKNOWN = 2  # percent of the pieces
_IMBALANCE = 10  # rows of the most frequent label for one of the rarest
_NAMED = 10  # labels that a line lists


@dataclass
class SplitStatistics:
    """Counts over the examples of one split. Texts are remembered as 64-bit hashes."""

    name: str  # of the split: train, dev, ...
    problem_type: str
    labelled: bool = True  # whether its labels are known
    rows_of: list[int] = field(default_factory=list)  # rows of features, for each example
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
        if self.label_rows:
            named = [f"{label} {n}" for label, n in self.label_rows.most_common(_NAMED)]
            more = len(self.label_rows) - len(named)
            text += f"\n  labels: {', '.join(named)}" + (f", and {more} more" if more > 0 else "")
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
    if split.contradicting:
        found.append(
            f"{split.contradicting} examples of {split.name} repeat the texts of another one "
            "with another label"
        )
    return found


def _of_labels(split: SplitStatistics, labels: Sequence[str]) -> list[str]:
    count, found = len(split.rows_of), []
    if absent := [label for label in labels if not split.label_rows[label]]:
        named = ", ".join(absent[:_NAMED]) + (", ..." if len(absent) > _NAMED else "")
        found.append(f"no example of {split.name} is labelled {named}")
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
