"""The files that `extract_features.py` writes, a line's vectors at a time. Without TensorFlow.

L is the number of vectors a token or line has (one a layer), E their size, T a line's tokens.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from bert_tf import filesystem, json_numbers

_GROUP_BYTES = 64 << 20  # of vectors in a row group of a Parquet file


class VectorWriter(ABC):
    """Writes lines in order.

    Args:
      path: of the output.
      open_file: path -> that file, to be written.
      names: what the L vectors are called: a layer's index or a word.
      by_token: whether every token has vectors, or each line as a whole.
      size: E.
    """

    def __init__(
        self,
        path: str,
        open_file: Callable[[str], IO[bytes]],
        names: Sequence[int | str],
        by_token: bool,
        size: int,
    ):
        self.file = open_file(path)
        self.names, self.by_token, self.size = names, by_token, size

    @abstractmethod
    def write(self, number: int, tokens: Sequence[str], vectors: np.ndarray) -> None:
        """Appends line `number` (from 0): float32 `[T, L, E]`, or `[L, E]` for a whole line."""

    def flush(self) -> None:
        """Hands what is written to the operating system, for those who read along."""
        self.file.flush()

    def finish(self) -> None:
        """Writes what a file has beyond its lines."""
        self.flush()


class JsonlWriter(VectorWriter):
    """Google's form, byte for byte: an object a line, numbers rounded to six places.

    A whole line's vectors stand in "layers" beside "linex_index" (Google's spelling).
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        starts = [f'{{"index": {json.dumps(name)}, "values": [' for name in self.names]
        self._starts = (starts[0], *("]}, " + start for start in starts[1:]))
        self._quoted = functools.lru_cache(1 << 16)(json.dumps)

    def write(self, number: int, tokens: Sequence[str], vectors: np.ndarray) -> None:
        rows = iter(json_numbers.rounded_rows(vectors.reshape(-1, self.size)))

        def layers() -> str:  # of the next token, or of the line
            return "".join([start + next(rows) for start in self._starts]) + "]}"

        if self.by_token:
            features = ", ".join(
                [f'{{"token": {self._quoted(t)}, "layers": [{layers()}]}}' for t in tokens]
            )
            text = f'{{"linex_index": {number}, "features": [{features}]}}\n'
        else:
            text = f'{{"linex_index": {number}, "layers": [{layers()}]}}\n'
        self.file.write(text.encode("ascii"))


class _NpyFile:
    """An npy file whose number of rows is known at the end."""

    def __init__(self, file: IO[bytes], dtype: str, row_shape: Sequence[int]):
        self._file, self._dtype, self._row_shape = file, dtype, tuple(row_shape)
        self.rows = 0
        self.finish()

    def append(self, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self.rows += values.size // max(1, int(np.prod(self._row_shape)))

    def finish(self) -> None:
        # NumPy's header has room for the number of rows to grow, so it keeps its length.
        shape = (self.rows, *self._row_shape)
        header = {"descr": self._dtype, "fortran_order": False, "shape": shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.seek(0, os.SEEK_END)


class NpyWriter(VectorWriter):
    """One float32 array `[lines, L, E]`, or `[lines, E]` where L is 1; by token, of all tokens.

    Then `<name>.offsets.npy`, int64 `[lines + 1]`, says where each line's tokens begin.
    """

    def __init__(self, path: str, open_file: Callable[[str], IO[bytes]], *arguments: Any):
        super().__init__(path, open_file, *arguments)
        layers = [len(self.names)] if len(self.names) > 1 else []
        self._vectors = _NpyFile(self.file, "<f4", [*layers, self.size])
        self._offsets = None
        if self.by_token:
            self._offsets = _NpyFile(open_file(offsets_path(path)), "<i8", [])
            self._offsets.append(np.array(0))

    def write(self, number: int, tokens: Sequence[str], vectors: np.ndarray) -> None:
        self._vectors.append(vectors)
        if self._offsets:
            self._offsets.append(np.array(self._vectors.rows))

    def finish(self) -> None:
        self._vectors.finish()
        if self._offsets:
            self._offsets.finish()


class ParquetWriter(VectorWriter):
    """A row a line: `linex_index`, by token also `tokens`, and `layer_<name>` for each vector.

    A vector is a fixed-size list of float32; by token, a column holds a list of them.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ValueError(
                "--output_format=parquet needs pyarrow: pip install 'bert_tf[parquet]'"
            ) from error
        vector = pyarrow.list_(pyarrow.float32(), self.size)
        fields = [("linex_index", pyarrow.int64())]
        if self.by_token:
            fields.append(("tokens", pyarrow.list_(pyarrow.string())))
            vector = pyarrow.list_(vector)
        fields += [(f"layer_{name}", vector) for name in self.names]
        self._arrow, self._schema = pyarrow, pyarrow.schema(fields)
        self._writer = pyarrow.parquet.ParquetWriter(self.file, self._schema)
        self._rows: list[tuple[int, Sequence[str], np.ndarray]] = []

    def write(self, number: int, tokens: Sequence[str], vectors: np.ndarray) -> None:
        self._rows.append((number, tokens, vectors))

    def flush(self) -> None:
        """Ends a row group if it has become large enough."""
        if sum(vectors.nbytes for *_, vectors in self._rows) >= _GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        if self._rows:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        arrow = self._arrow
        numbers, tokens, vectors = zip(*self._rows, strict=True)
        self._rows = []
        columns = [arrow.array(numbers, arrow.int64())]
        if self.by_token:
            columns.append(arrow.array(tokens, arrow.list_(arrow.string())))
        starts = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
        stacked = np.concatenate([x.reshape(-1, len(self.names), self.size) for x in vectors])
        for place in range(len(self.names)):
            flat = arrow.array(stacked[:, place].ravel())
            column = arrow.FixedSizeListArray.from_arrays(flat, self.size)
            columns.append(arrow.ListArray.from_arrays(starts, column) if self.by_token else column)
        self._writer.write_table(arrow.Table.from_arrays(columns, schema=self._schema))


_WRITERS = {"jsonl": JsonlWriter, "npy": NpyWriter, "parquet": ParquetWriter}


def offsets_path(path: str) -> str:
    """`vectors.npy` -> `vectors.offsets.npy`."""
    return f"{os.path.splitext(path)[0]}.offsets.npy"


@contextlib.contextmanager
def writer(
    path: str, output_format: str, names: Sequence[int | str], by_token: bool, size: int
) -> Iterator[VectorWriter]:
    """A writer to `<path>.partial`, which gets its name when the block ends without an error.

    A remote file is written locally and copied at the end.

    Args:
      output_format: `jsonl`, `npy` or `parquet`.
      names, by_token, size: see `VectorWriter`.
    """
    targets: list[str] = []
    with contextlib.ExitStack() as copies:
        with contextlib.ExitStack() as files:

            def open_file(name: str) -> IO[bytes]:
                target = copies.enter_context(filesystem.local_target(name))
                targets.append(target)
                return files.enter_context(open(f"{target}.partial", "wb"))

            opened = _WRITERS[output_format](path, open_file, names, by_token, size)
            files.callback(opened.finish)  # of a part as well: what is there can be read
            yield opened
        for target in reversed(targets):  # the one that was asked for comes last
            os.replace(f"{target}.partial", target)
