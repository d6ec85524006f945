"""What other programs put around Google's names: a scope in front, slots and averages behind.

Found by the structure of the names alone, and always said; `plan` reads no tensor.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from bert_tf.checkpoints.names import is_optimizer_state

_WORDS = re.compile(r"(?:(?P<scope>.+)/)?embeddings/word_embeddings")
_AVERAGE = "/ExponentialMovingAverage"
_ENCODER = re.compile(r"(embeddings|encoder|pooler)/")
_HEADS = re.compile(r"(cls|crf)/|output_(weights|bias)($|/)")


class Plan(NamedTuple):
    """Google's name -> the name in the file, for all that is read; and what was found, in words."""

    sources: dict[str, str]
    notes: tuple[str, ...]


def plan(names: Collection[str]) -> Plan:
    """How the tensors of a TensorFlow 1 checkpoint are called at Google's.

    A scope before `bert/`, or in the place of `bert`, is that of the word embeddings; it goes, from
    the heads as well. Of a weight and its exponential average the weight is read; the average
    where there is no other.

    Raises:
      ValueError: there are several encoders, and none is called plainly `bert`.
    """
    notes = []
    averages = {name.removesuffix(_AVERAGE): name for name in names if name.endswith(_AVERAGE)}
    sources = {name: name for name in names if not name.endswith(_AVERAGE)}
    if averages:
        only = {name: average for name, average in averages.items() if name not in sources}
        left = len(averages) - len(only)
        notes += [f"{left} exponential averages left out, beside their weights"] * bool(left)
        notes += [f"{len(only)} weights are exponential averages"] * bool(only)
        sources |= only
    scope = _scope(sources)
    if scope in (None, "bert"):
        return Plan(sources, tuple(notes))
    notes.append(f"scope {scope!r} read as 'bert'")
    renamed = {_google_name(name, scope): source for name, source in sources.items()}
    if len(renamed) < len(sources):
        lost = sorted(sources.keys() - renamed.values())
        raise ValueError(f"without the scope {scope!r}, {lost[0]} bears another tensor's name")
    return Plan(renamed, tuple(notes))


def _scope(names: Collection[str]) -> str | None:
    """What stands before `embeddings/word_embeddings`: "" if nothing does, None without these."""
    found = sorted({m["scope"] or "" for name in names if (m := _WORDS.fullmatch(name))})
    if "bert" in found or not found:
        return "bert" if found else None
    if len(found) > 1:
        raise ValueError(
            f"it holds {len(found)} encoders, under {', '.join(found)}; write the one you want "
            "under the scope 'bert'"
        )
    return found[0]


def _google_name(name: str, scope: str) -> str:
    """Without the scope, or without what stands before it: heads may be inside or beside."""
    for front in (scope, scope.rpartition("/")[0]):
        rest = name.removeprefix(f"{front}/") if front else name
        if front and rest == name:
            continue
        if front == scope and _ENCODER.match(rest):
            return f"bert/{rest}"
        if _HEADS.match(rest) or is_optimizer_state(rest):
            return rest
    return name
