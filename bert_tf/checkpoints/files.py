"""Files that are either complete or not there, and errors that name them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.io import gfile

from bert_tf import filesystem
from bert_tf.checkpoints.limits import Allowance, RefusedError

STAGING_PREFIX = ".saving-"  # a folder so named is what an interrupted save left behind
_MAX_REASON = 500  # characters, of which a file may determine some


class DamagedCheckpointError(ValueError):
    """A checkpoint that is truncated or corrupted; the message names the file."""


def damaged(path: str, reason: Any) -> DamagedCheckpointError:
    """The error for a file that cannot be read as what its name says."""
    text = str(reason).strip()
    text = text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."
    return DamagedCheckpointError(
        f"{path} is damaged or incomplete ({text}); fetch or write it again"
    )


def size(path: str) -> int:
    """Bytes in a file; a missing one, a folder or a pipe is a `DamagedCheckpointError`."""
    try:
        return filesystem.regular_size(path)
    except FileNotFoundError as error:
        raise damaged(path, "the file is missing") from error
    except OSError as error:
        if filesystem.is_remote(path):
            raise
        raise damaged(path, error.strerror) from error


@contextlib.contextmanager
def reading(path: str) -> Iterator[tuple[str, Allowance]]:
    """Yield a local path to read a file of tensors from, and the bytes that they may take.

    Whatever goes wrong in the block is an error that names the file: it is refused, or damaged.
    Only a MemoryError stays what it is.
    """
    allowance = Allowance(size(path))
    with filesystem.local_copy(path) as local:
        try:
            yield local, allowance
        except RefusedError as error:
            raise type(error)(f"{path} is refused: {error}") from None
        except (DamagedCheckpointError, MemoryError):
            raise
        except Exception as error:  # a broken file raises nearly anything, KeyError to EOFError
            raise damaged(path, str(error) or type(error).__name__) from error


@contextlib.contextmanager
def staged(path: str, last: str) -> Iterator[str]:
    """Yields an empty folder for a checkpoint's files; they appear beside `path` at the end.

    The checkpoint counts as complete when `last` (a file's name) is there, so among several files
    an older one of that name goes first and the new one comes last: whenever the process dies,
    readers see the old checkpoint, none, or the new one. A single file is replaced at once, old
    by new. An exception in the block leaves everything as it was.

    Args:
      path: the checkpoint, a file or prefix; its folder is made if need be.
      last: the name of the file without which the others mean nothing.

    Raises:
      OSError: the files could not be written; the message names `path` and the cause.
    """
    folder = os.path.dirname(path) or "."
    staging = os.path.join(folder, STAGING_PREFIX + os.path.basename(path))
    try:
        try:
            remove_tree(staging)
            gfile.makedirs(staging)
            yield staging
            _publish(staging, folder, last)
        finally:
            remove_tree(staging)
    except (OSError, tf.errors.OpError) as error:
        reason = str(getattr(error, "message", None) or error).splitlines()[0]
        raise OSError(
            f"could not save {path}: {reason}; the folder must be writable and have enough space"
        ) from error


def _publish(staging: str, folder: str, last: str) -> None:
    names = sorted(gfile.listdir(staging), key=lambda name: (name == last, name))
    for name in names:
        _flush(os.path.join(staging, name))
    if len(names) > 1 and gfile.exists(os.path.join(folder, last)):
        gfile.remove(os.path.join(folder, last))
    for name in names:
        gfile.rename(os.path.join(staging, name), os.path.join(folder, name), overwrite=True)
    _flush(folder)


def _flush(path: str) -> None:
    """Waits until a local file, or the names in a folder, are on the disk.

    So a power cut cannot empty a file after its rename, nor undo the rename.
    """
    if filesystem.is_remote(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: str, contents: bytes) -> None:
    """Writes a small file: readers see the old one, or none, until the new one is whole."""
    name = os.path.basename(path)
    with staged(path, last=name) as staging:
        filesystem.write_bytes(os.path.join(staging, name), contents)


def remove_tree(folder: str) -> None:
    """Removes a folder, if it is there."""
    if gfile.exists(folder):
        gfile.rmtree(folder)
