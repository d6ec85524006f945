"""Files of JSON objects, one a line."""

import json
import re
from collections.abc import Iterator
from typing import Any

from bert_tf.data.text_files import BadRow, OnBad, did_you_mean, lines, refuse

JsonObject = dict[str, Any]

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_rows(path: str, on_bad: OnBad = refuse) -> Iterator[tuple[int, JsonObject]]:
    """Line number (from 1) and object of each line; anything else is a bad row."""
    for line, text in lines(path):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            on_bad(BadRow(path, line, f"not a JSON object ({error})"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            on_bad(BadRow(path, line, f"expected a JSON object, got {text[:40]!r}"))


def member(row: JsonObject, column: str, path: str, line: int) -> Any:
    """The value of a key. Raises BadRow if there is none."""
    if column not in row:
        hint = did_you_mean(column, list(row))
        raise BadRow(path, line, f"column {column!r} is missing.{hint}")
    return row[column]


def as_text(value: object, column: str, path: str, line: int) -> str:
    """A value as the text of a cell; null is empty. Raises BadRow for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise BadRow(path, line, f"column {column!r} must be text or a number, not {value!r:.40}")
    if _SURROGATE.search(value):
        raise BadRow(path, line, f"column {column!r} holds half of a surrogate pair")
    return value
