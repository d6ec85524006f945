"""TFRecord files that get the same share of the records, all complete or none there at all."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator, Sequence
from typing import IO, cast

from bert_tf import filesystem
from bert_tf.data.example_bytes import record


class RecordWriter:
    """Writes records to files in turn; made by `open_records`."""

    def __init__(self, files: Sequence[IO[bytes]]):
        self._files = files
        self.count = 0

    def write(self, data: bytes) -> None:
        """Adds one record, to the next file."""
        self._files[self.count % len(self._files)].write(record(data))
        self.count += 1


@contextlib.contextmanager
def open_records(paths: Sequence[str]) -> Iterator[RecordWriter]:
    """A writer of these files, local or remote; one that ends in .gz is compressed.

    Until the end of the block they are called `<path>.<process>.partial`; what killed runs left
    behind under such names is removed first.

    Raises: OSError naming the file if one cannot be written; then there is none of them.
    """
    partial = {path: f"{path}.{os.getpid()}.partial" for path in paths}
    try:
        with contextlib.ExitStack() as stack:
            files: list[IO[bytes]] = []
            for path, temporary in partial.items():
                for stale in filesystem.beside(path, ".", ".partial"):
                    filesystem.remove(stale)
                files.append(stack.enter_context(_open(temporary)))
                if path.endswith(".gz"):  # without name and time, so that the bytes repeat
                    packed = gzip.GzipFile("", "wb", 6, files.pop(), mtime=0)
                    files.append(cast(IO[bytes], stack.enter_context(packed)))
            yield RecordWriter(files)
        for path, temporary in partial.items():
            _rename(temporary, path)
    finally:
        for temporary in partial.values():
            if filesystem.is_file(temporary):
                filesystem.remove(temporary)


def _open(path: str) -> IO[bytes]:
    if not filesystem.is_remote(path):
        return open(path, "wb", buffering=1 << 20)
    from tensorflow.io import gfile

    return gfile.GFile(path, "wb")


def _rename(source: str, target: str) -> None:
    if not filesystem.is_remote(source):
        os.replace(source, target)
        return
    from tensorflow.io import gfile

    gfile.rename(source, target, overwrite=True)
