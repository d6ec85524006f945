"""The report of every weight in a checkpoint and every variable of a model."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence

from bert_tf.checkpoints.names import is_encoder

_SHOWN = 6  # names in full; the rest as a number
_WORDS = "bert/embeddings/word_embeddings"


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of the weights in a file and of the variables of a model.

    Attributes:
      source: the checkpoint.
      loaded: names of variables that were set.
      missing: variables not in the file: newly initialised.
      unexpected: entries of the file that the model has no variable for.
      mismatched: (name, the model's shape, the file's shape): newly initialised.
      encoder_percent: the share of the encoder's parameters (embeddings and layers) loaded.
      notes: what was found in the file that is not its family's own way, such as a scope in front.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    encoder_percent: float
    notes: tuple[str, ...] = ()

    @property
    def lacking(self) -> list[str]:
        """Names of all variables that were not set."""
        return [*self.missing, *(name for name, *_ in self.mismatched)]

    def __str__(self) -> str:
        shapes = [f"{name} {ours} here, {theirs} there" for name, ours, theirs in self.mismatched]
        rows = (
            ("loaded", "", len(self.loaded), ()),
            ("missing", "newly initialised", len(self.missing), self.missing),
            (
                "unexpected",
                "not in this model",
                len(self.unexpected),
                self.unexpected,
            ),
            ("shape mismatch", "newly initialised", len(shapes), shapes),
        )
        lines = [f"{self.source}: {_percent(self)} of the encoder's parameters found"]
        for title, note, count, names in rows:
            lines.append(
                f"  {title:<15}{count:>4}" + (f"  {note}: {_some(names)}" if names else "")
            )
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def _percent(report: LoadReport) -> str:
    """Rounded down: 100% is said of a complete encoder only."""
    return f"{math.floor(100 * report.encoder_percent) / 100:g}%"


def _some(names: Sequence[str]) -> str:
    more = f", ... ({len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def incomplete(report: LoadReport) -> str:
    """Why the encoder did not load, and what to do: the text of an error."""
    for name, ours, theirs in report.mismatched:
        if name == _WORDS and ours[1:] == theirs[1:]:
            return (
                f"{report.source} has word embeddings for {theirs[0]} pieces, the model's config "
                f"says vocab_size={ours[0]}; use the config and vocabulary that belong to it"
            )
    lines = [f"{report.source} holds {_percent(report)} of the encoder's parameters"]
    wrong = [x for x in report.mismatched if is_encoder(x[0])]
    lines += [
        f"  {name}: {ours} in the model, {theirs} in the file" for name, ours, theirs in wrong
    ]
    absent = [name for name in report.missing if is_encoder(name)]
    for name in absent[:_SHOWN]:
        close = difflib.get_close_matches(name, report.unexpected, n=1, cutoff=0.5)
        lines.append(f"  {name} is missing" + (f"; the closest is {close[0]}" if close else ""))
    if len(absent) > _SHOWN:
        lines.append(f"  and {len(absent) - _SHOWN} more")
    remedy = "use the config that belongs to it"
    if report.encoder_percent > 0:  # nothing at all is never accepted
        remedy += (
            ", or accept a part of it: --allow_partial_checkpoint (in Python: "
            "checkpoints.load with allow_partial=True)"
        )
    lines.append(remedy)
    return "\n".join(lines)
