"""What a page is built from: sections with tables and figures. Cells are plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_WORST = 20  # rows of a table of errors
_TEXT = 300  # characters of a text that are shown


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a header; the first cell of a row is its heading unless `plain`."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    plain: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """An image, what it shows in words for those who do not see it, and its caption."""

    uri: str
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A cell with the words of an example: as much as is shown, and how much is not."""

    shown: str
    left_out: int

    @classmethod
    def of(cls, text: str) -> Text:
        """Return the cell of a text of any length."""
        return cls(text[:_TEXT], max(0, len(text) - _TEXT))


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    intro: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    matrix: Table | None = None  # counts whose rows are shaded by share


def named_values(title: str, caption: str, values: Mapping[str, Any]) -> list[Section]:
    """Return a section with the values that are there; none if there are none."""
    rows = [(name, number(value)) for name, value in values.items() if value not in (None, "")]
    return [Section(title, tables=[Table(caption, ("name", "value"), rows)])] if rows else []


def worst_errors(
    what: str, header: Sequence[str], losses: Sequence[float], row: Callable[[int], Sequence[Any]]
) -> list[Section]:
    """Return a section with the rows of the highest loss; none if no loss is above 0.

    Args:
      what: is shown, behind "The 20 worst of 134 ".
      losses: how wrong each example is; 0 is right.
      row: number of an example -> its cells.
    """
    order = [int(i) for i in np.argsort(-np.asarray(losses), kind="stable") if losses[i] > 0]
    if not order:
        return []
    count = f"All {len(order):,}"
    if len(order) > _WORST:
        count = f"The {_WORST} worst of {len(order):,}"
    table = Table("Worst first", header, [row(i) for i in order[:_WORST]], plain=True)
    return [Section("Worst errors", f"{count} {what}", tables=[table])]


def number(value: Any) -> str:
    """Return fractions to four places, very small and large ones in scientific form."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        plain = 1e-3 <= abs(value) < 1e4
        return f"{value:.4f}" if plain else f"{value:.4g}"
    return "" if value is None else str(value)
