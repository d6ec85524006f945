"""Files of JSON objects, one a line."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bert_tf.data.text_files import BadRow, OnBad, did_you_mean, lines, refuse

JsonObject = dict[str, Any]

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_rows(
    path: str, on_bad: OnBad = refuse, encoding: str | None = None
) -> Iterator[tuple[int, JsonObject]]:
    """Line number (from 1) and object of each line; anything else is a bad row."""
    for line, text in lines(path, on_bad, encoding):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            on_bad(BadRow(path, line, f"not a JSON object ({error})"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            on_bad(BadRow(path, line, f"expected a JSON object, got {text[:40]!r}"))


def member(row: Mapping[str, Any], column: str) -> Any:
    """The value of a key. Raises ValueError if there is none."""
    if column not in row:
        raise ValueError(f"column {column!r} is missing.{did_you_mean(column, list(row))}")
    return row[column]


def as_text(value: object, column: str) -> str:
    """A value as the text of a cell; null is empty. Raises ValueError for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise ValueError(f"column {column!r} must be text or a number, not {value!r:.40}")
    if _SURROGATE.search(value):
        raise ValueError(f"column {column!r} holds half of a surrogate pair")
    return value
