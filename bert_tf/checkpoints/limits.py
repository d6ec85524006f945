"""How much a file of unknown origin may ask for; said once, for every format."""

from __future__ import annotations

_TIMES = 4  # the tensors of a file together, beside its size: several may share one storage
_LEAST = 16 << 20  # bytes, which any file may take
MAX_NAME = 4096  # characters
MAX_RANK = 64  # NumPy's limit
MAX_SIZE = 1 << 62  # numbers in a tensor


class RefusedError(ValueError):
    """The file may be whole, but it holds what no set of weights needs, such as program code."""


class Allowance:
    """The bytes that the tensors of one file may take together.

    Each is counted as often as the file names it: views of one storage are copies later.
    """

    def __init__(self, file_size: int):
        self.file_size = file_size
        self._left = self._whole = max(_TIMES * file_size, _LEAST)

    def take(self, count: int, name: str = "") -> None:
        """Count `count` bytes, and a name. Raises ValueError when they are too many."""
        if len(name) > MAX_NAME:
            raise ValueError(f"a name of {len(name)} characters, starting with {name[:40]!r}")
        self._left -= count + len(name)
        if self._left < 0:
            raise ValueError(
                f"its tensors take more than {self._whole} bytes, too much for a file of its size"
            )


def is_shape(sizes: object) -> bool:
    """Return whether these are sizes that an array can have; they may be anything."""
    return (
        isinstance(sizes, tuple | list)
        and len(sizes) <= MAX_RANK
        and all(type(size) is int and 0 <= size < MAX_SIZE for size in sizes)
    )
