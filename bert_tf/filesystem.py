"""Files by path, local or remote: the one place that says how either is opened.

A path with a scheme (`gs://bucket/file`, whatever `tf.io.gfile` knows) is TensorFlow's to open,
and what it raises then is an OSError that names the path, as for a local file. TensorFlow is
imported only when there is such a path. Give remote paths as str: `pathlib.Path` would make
`gs:/bucket` of `gs://bucket`.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

StrPath = str | os.PathLike[str]

MAX_JSON_BYTES = 32 << 20  # of a description; data are read elsewhere
_MAX_JSON_DEPTH = 64
_PATTERN = frozenset("*?[]\\")  # what some of TensorFlow's readers take for a pattern


def is_remote(path: StrPath) -> bool:
    """Whether the path has a scheme."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def os_errors(path: StrPath) -> Iterator[None]:
    """TensorFlow's errors in the block become OSErrors that name `path`."""
    import tensorflow as tf  # slow to import, and few need it

    try:
        yield
    except tf.errors.OpError as error:
        number = errno.ENOENT if isinstance(error, tf.errors.NotFoundError) else errno.EIO
        reason = (error.message or os.strerror(number)).splitlines()[0]
        # With ENOENT this is a FileNotFoundError.
        raise OSError(number, reason, os.fspath(path)) from error


def is_file(path: StrPath) -> bool:
    """Whether there is such a file, and not a folder."""
    if not is_remote(path):
        return os.path.isfile(path)
    from tensorflow.io import gfile

    with os_errors(path):
        return gfile.exists(path) and not gfile.isdir(path)


def is_dir(path: StrPath) -> bool:
    """Whether there is such a folder; False too where a remote file system cannot be reached."""
    if not is_remote(path):
        return os.path.isdir(path)
    from tensorflow.io import gfile

    return gfile.isdir(path)


def list_dir(path: StrPath) -> list[str]:
    """The names in a folder, sorted."""
    if not is_remote(path):
        return sorted(os.listdir(path))
    from tensorflow.io import gfile

    with os_errors(path):  # object stores end the names of folders in a slash
        return sorted(name.rstrip("/") for name in gfile.listdir(path))


def matching(pattern: str) -> list[str]:
    """Return the files that a pattern names, sorted; a file of that very name is that file."""
    if is_file(pattern):
        return [pattern]
    if not is_remote(pattern):
        return sorted(filter(os.path.isfile, glob.glob(pattern)))
    from tensorflow.io import gfile

    with os_errors(pattern):
        return sorted(filter(is_file, gfile.glob(pattern)))


def beside(path: str, start: str = "", end: str = "") -> list[str]:
    """Return the paths `<path><start>...<end>`, sorted; `path` is a name, not a pattern."""
    folder, name = os.path.split(path)
    if not is_dir(folder or "."):
        return []
    names = list_dir(folder or ".")
    return [
        os.path.join(folder, other)
        for other in names
        if other.startswith(name + start) and other.endswith(end)
    ]


def make_dir(path: StrPath) -> None:
    """Makes a folder and those above it, where they are missing."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    from tensorflow.io import gfile

    with os_errors(path):
        gfile.makedirs(path)


def size(path: StrPath) -> int:
    """Bytes in a file."""
    if not is_remote(path):
        return os.path.getsize(path)
    from tensorflow.io import gfile

    with os_errors(path):
        return gfile.stat(path).length


def check_space(needs: Mapping[str, int], remedy: str) -> None:
    """Check that the disks have room; remote folders are not asked.

    Args:
      needs: folder, which may be missing yet -> bytes that will be written into it.
      remedy: what else can be done, for the message.

    Raises:
      OSError: one of the disks has too little room.
    """
    disks: dict[int, tuple[str, int]] = {}
    for folder, wanted in needs.items():
        if is_remote(folder):
            continue
        there = os.path.abspath(folder)
        while not os.path.exists(there):
            there = os.path.dirname(there)
        first, others = disks.get(os.stat(there).st_dev, (there, 0))
        disks[os.stat(there).st_dev] = first, others + wanted
    for there, wanted in disks.values():
        free = shutil.disk_usage(there).free
        if free < wanted:
            reason = (
                f"this run writes up to {wanted / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are "
                f"free on this disk; free some, {remedy}"
            )
            raise OSError(errno.ENOSPC, reason, there)


def regular_size(path: StrPath) -> int:
    """Return the bytes in a file. Raises OSError for a folder, and for a pipe or device.

    Those might never end.
    """
    if is_remote(path):
        return size(path)
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return found.st_size


def read_bytes(path: StrPath, most: int | None = None) -> bytes:
    """The contents of a file; with `most`, of a regular file of no more bytes.

    Raises:
      ValueError: it is larger.
    """
    if most is not None and (found := regular_size(path)) > most:
        raise ValueError(
            f"{os.fspath(path)} has {found} bytes, more than any such file (the limit is {most})"
        )
    if not is_remote(path):
        return Path(path).read_bytes()
    from tensorflow.io import gfile

    with os_errors(path), gfile.GFile(path, "rb") as file:
        return file.read()


def read_json(path: StrPath, expected: type) -> Any:
    """Return what a JSON file holds, an object or a list; `expected` is dict or list.

    Raises:
      ValueError: it is not JSON, too large, nested too deeply, or holds something else.
      OSError: it cannot be read. The messages of both name the file.
    """
    name = os.fspath(path)
    data = read_bytes(path, MAX_JSON_BYTES)
    try:
        value = json.loads(data)
    except RecursionError:
        raise _nested(name) from None
    except ValueError as error:  # UnicodeDecodeError, or a number of thousands of digits
        raise ValueError(f"{name} is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(value, expected):
        kind = "object" if expected is dict else "list"
        raise ValueError(f"{name} holds no JSON {kind}, but a {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(_MAX_JSON_DEPTH):
        inner = [x.values() if isinstance(x, dict) else x for x in level]
        level = [x for items in inner for x in items if isinstance(x, dict | list)]
        if not level:
            return value
    raise _nested(name)


def _nested(name: str) -> ValueError:
    return ValueError(
        f"{name} is not valid JSON here: it is nested more than {_MAX_JSON_DEPTH} deep"
    )


def write_bytes(path: StrPath, contents: bytes) -> None:
    """Writes a file; its folder must be there."""
    if not is_remote(path):
        Path(path).write_bytes(contents)
        return
    from tensorflow.io import gfile

    with os_errors(path), gfile.GFile(path, "wb") as file:
        file.write(contents)


def remove(path: StrPath) -> None:
    """Removes a file."""
    if not is_remote(path):
        os.remove(path)
        return
    from tensorflow.io import gfile

    with os_errors(path):
        gfile.remove(os.fspath(path))


def refuse_overwriting(flag: str, outputs: Iterable[StrPath], inputs: Iterable[StrPath]) -> None:
    """Raise ValueError if one of the outputs is an input, also by a link or under another path.

    Args:
      flag: what gives the outputs, for the message.
    """
    read = {_identity(path): os.fspath(path) for path in inputs}
    for output in outputs:
        if (found := read.get(_identity(output))) is not None:
            other = "" if found == os.fspath(output) else f" (as {found})"
            raise ValueError(
                f"--{flag}: {output} is read{other}, and writing would replace it; give another "
                "name"
            )


def _identity(path: StrPath) -> object:
    """Return what is the same for two paths of one file."""
    if is_remote(path):
        return os.fspath(path)
    real = os.path.realpath(path)  # also of a folder that is not made yet
    try:
        found = os.stat(real)
    except OSError:
        return real
    return found.st_dev, found.st_ino


def write_whole(path: StrPath, contents: bytes) -> None:
    """Writes a file in a folder that is made if need be: it is there when it is complete."""
    path = os.fspath(path)
    make_dir(os.path.dirname(path) or ".")
    if is_remote(path):  # an object appears when it is closed
        write_bytes(path, contents)
        return
    temporary = f"{path}.{os.getpid()}.partial"
    try:
        write_bytes(temporary, contents)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local path to read the file from: its own, or that of a copy for the time of the block."""
    if not is_remote(path):
        yield path
        return
    from tensorflow.io import gfile

    with _temporary(path) as local:
        with os_errors(path):
            gfile.copy(path, local)
        yield local


@contextlib.contextmanager
def local_target(path: str) -> Iterator[str]:
    """A local path to write the file to: its own, or one that is copied there after the block."""
    if not is_remote(path):
        yield path
        return
    from tensorflow.io import gfile

    with _temporary(path) as local:
        yield local
        with os_errors(path):
            gfile.copy(local, path, overwrite=True)


@contextlib.contextmanager
def plain_name(path: str) -> Iterator[str]:
    """Yield the path of a file, folder or prefix, or a link to it if the path looks like a pattern.

    TensorFlow's readers of checkpoints and SavedModels take their path for a pattern, so that they
    do not find `run[1]/model.ckpt-5`.
    """
    if is_remote(path) or not _PATTERN.intersection(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bert_tf-", ignore_cleanup_errors=True) as folder:
        link = os.path.join(folder, "plain")
        for there in [path] * os.path.exists(path) + beside(path, "."):
            os.symlink(os.path.abspath(there), link + there.removeprefix(path))
        yield link


@contextlib.contextmanager
def _temporary(path: str) -> Iterator[str]:
    # The name stays, for those who go by its ending.
    with tempfile.TemporaryDirectory(prefix="bert_tf-", ignore_cleanup_errors=True) as folder:
        yield os.path.join(folder, os.path.basename(path))
