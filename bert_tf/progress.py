"""How far a loop is: a bar on a terminal; elsewhere, a log file say, a line now and then."""

import sys
from typing import Any, TextIO

import tqdm

SECONDS_BETWEEN_LINES = 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


def bar(*args: Any, **kwargs: Any) -> tqdm.tqdm:
    """`tqdm.tqdm(...)` on standard error.

    Where that is no terminal, one line is written every `SECONDS_BETWEEN_LINES` and one at the
    end, but none for what takes less.
    """
    if sys.stderr.isatty():
        return tqdm.tqdm(*args, dynamic_ncols=True, **kwargs)
    lines = {
        "file": _Lines(sys.stderr),
        "bar_format": _LINE,
        "delay": SECONDS_BETWEEN_LINES,
        "mininterval": SECONDS_BETWEEN_LINES,
        "maxinterval": SECONDS_BETWEEN_LINES,
        "miniters": 1,
    }
    return tqdm.tqdm(*args, **kwargs | lines)


class _Lines:
    """A stream in which what tqdm draws anew each time is a line of its own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
