"""float32 arrays as JSON text, rounded as Google's extract_features.py rounds: no step a value.

The text is that of `json.dumps([round(float(x), 6) for x in row])`, at a twentieth of the time:
  x * 10^6 is exact in float64, since 24 bits of x and 14 of 5^6 fit into its 53;
  so its nearest integer, ties to even, is the one that `round` finds;
  and of so few digits, they are the shortest that name the double: what `repr` writes.
What stands before and after the point comes from two tables of eight characters an entry.
"""

from __future__ import annotations

import functools
import json

import numpy as np

_MICRO = 10**6  # rounded to six places
_WHOLE = 1000  # below this many thousands of _MICRO the tables reach
_TINY = 100  # from so many _MICRO on, `repr` writes no exponent
_SEPARATOR, _ROW = ", ", "\n"


def rounded_rows(values: np.ndarray) -> list[str]:
    """float32 `[rows, columns]` -> for each row its numbers, joined by ", "; at least one column.

    NaN and infinities are `NaN`, `Infinity` and `-Infinity`, as `json.dumps` has them.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN, cast
        scaled = np.rint(values.astype(np.float64) * _MICRO)
    if not (np.abs(scaled) < _WHOLE * _MICRO).all():
        return [json.dumps([round(x, 6) for x in row])[1:-1] for row in values.tolist()]
    units = np.abs(scaled).astype(np.int32)
    heads = units // _MICRO
    tails = units - heads * _MICRO
    tiny = (units > 0) & (units < _TINY)
    heads[tiny] = _WHOLE
    tails[tiny] += _MICRO
    heads += np.signbit(values) * np.int32(_WHOLE + 1)
    heads[:, 0] += 2 * (_WHOLE + 1)
    words = np.empty((*values.shape, 2), np.uint64)
    words[..., 0] = _heads()[heads]
    words[..., 1] = _tails()[tails]
    text = words.tobytes().translate(None, b"\0").decode("ascii")
    return text[len(_ROW) :].split(_ROW)


@functools.cache
def _heads() -> np.ndarray:
    """uint64: separator, sign and whole part; as whole part number `_WHOLE`, nothing."""
    texts = [
        separator + sign + whole
        for separator in (_SEPARATOR, _ROW)
        for sign in ("", "-")
        for whole in (*map(str, range(_WHOLE)), "")
    ]
    return np.array(texts, "S8").view(np.uint64)


@functools.cache
def _tails() -> np.ndarray:
    """uint64: point and digits of each millionth, then the small numbers with an exponent."""
    units = np.arange(_MICRO)
    characters = np.zeros((_MICRO, 8), np.uint8)
    characters[:, 0] = ord(".")
    for place in range(6):
        characters[:, 1 + place] = ord("0") + units // 10 ** (5 - place) % 10
    for place in range(1, 6):  # zeros at the end go, except directly behind the point
        characters[units % 10 ** (6 - place) == 0, 1 + place :] = 0
    small = np.array([repr(unit / _MICRO) for unit in range(_TINY)], "S8")
    return np.concatenate([characters.reshape(-1).view(np.uint64), small.view(np.uint64)])
