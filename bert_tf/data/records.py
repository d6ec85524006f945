"""TFRecord files of fixed-length features: written whole or not at all, read in any order.

Names, types and order of the features are google-research/bert's.
"""

import gzip
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Protocol

import numpy as np
import tensorflow as tf

from bert_tf import filesystem

Spec = Mapping[str, tf.io.FixedLenFeature]  # name -> shape and dtype (int64 or float32)

_HEADER = 12  # bytes before a record in the file: uint64 length, uint32 checksum of the length
_FOOTER = 4  # after it: uint32 checksum of the record
_SCAN_BATCH = 4096


def classification_spec(
    max_seq_length: int, regression: bool, num_labels: int | None = None
) -> Spec:
    """Google's features of run_classifier.py; a regression's `label_ids` are floats.

    Args:
      num_labels: where a row has any number of labels: `label_ids` are so many floats, 0 or 1.
    """
    row = tf.io.FixedLenFeature([max_seq_length], tf.int64)
    one = tf.io.FixedLenFeature([1], tf.int64)
    label_ids = tf.io.FixedLenFeature([1], tf.float32) if regression else one
    if num_labels is not None:
        label_ids = tf.io.FixedLenFeature([num_labels], tf.float32)
    return {
        "input_ids": row,
        "input_mask": row,
        "segment_ids": row,
        "label_ids": label_ids,
        "is_real_example": one,
    }


def span_spec(max_seq_length: int, is_training: bool) -> Spec:
    """Google's features of run_squad.py; positions and `is_impossible` only to train on."""
    row = tf.io.FixedLenFeature([max_seq_length], tf.int64)
    one = tf.io.FixedLenFeature([1], tf.int64)
    spec = {"unique_ids": one, "input_ids": row, "input_mask": row, "segment_ids": row}
    if is_training:
        spec |= {"start_positions": one, "end_positions": one, "is_impossible": one}
    return spec


def tagging_spec(max_seq_length: int) -> Spec:
    """Features of a row of words and tags: `label_mask` is 1 where a piece bears a tag."""
    row = tf.io.FixedLenFeature([max_seq_length], tf.int64)
    names = ("input_ids", "input_mask", "segment_ids", "label_ids", "label_mask")
    return dict.fromkeys(names, row)


def pretraining_spec(
    max_seq_length: int, max_predictions_per_seq: int, dynamic_masking: bool = False
) -> Spec:
    """Google's features of create_pretraining_data.py.

    Args:
      dynamic_masking: rows are not masked yet: in place of the three `masked_lm` features,
        `masking_units` numbers the unit (a piece, a word, a group of words) that is masked
        together with each piece, from 1; 0 is never masked.
    """
    row = tf.io.FixedLenFeature([max_seq_length], tf.int64)
    spec = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), row)
    if dynamic_masking:
        spec["masking_units"] = row
    else:
        masked = tf.io.FixedLenFeature([max_predictions_per_seq], tf.int64)
        spec |= dict.fromkeys(("masked_lm_positions", "masked_lm_ids"), masked)
        weights = tf.io.FixedLenFeature([max_predictions_per_seq], tf.float32)
        spec["masked_lm_weights"] = weights
    return spec | {"next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64)}


def write(path: str, rows: Iterable[Mapping[str, Sequence[float]]], spec: Spec) -> int:
    """Writes one tf.Example for each row, and returns how many.

    The file appears under its name when it is complete. What a killed writer of the same file
    left behind is removed.

    Raises: ValueError if a row's features do not have the length that `spec` says.
      OSError naming the file if it cannot be written.
    """
    temporary = f"{path}.{os.getpid()}.partial"
    count = 0
    try:
        with filesystem.os_errors(path):
            for stale in filesystem.beside(path, ".", ".partial"):
                filesystem.remove(stale)
            with tf.io.TFRecordWriter(temporary) as writer:
                for row in rows:
                    writer.write(_serialize(row, spec))
                    count += 1
            tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        if filesystem.is_file(temporary):
            tf.io.gfile.remove(temporary)
        raise
    return count


def _serialize(row: Mapping[str, Sequence[float]], spec: Spec) -> bytes:
    example = tf.train.Example()
    for name, kind in spec.items():
        values = row[name]
        if [len(values)] != kind.shape:
            raise ValueError(f"feature {name} has {len(values)} values instead of {kind.shape[0]}")
        feature = example.features.feature[name]
        target = feature.int64_list if kind.dtype == tf.int64 else feature.float_list
        target.value.extend(values)
    return example.SerializeToString()


class Rows(Protocol):
    """Rows to train on or to evaluate: numbered, and read in any order."""

    spec: Spec

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, epochs: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The rows at these positions, as they are in these epochs (by default the first)."""
        ...


class RecordFile:
    """Random access to the examples of a TFRecord file, which are the same in every epoch.

    Opening reads the file once and verifies every checksum. A local file is then read from a
    memory map, a remote one is held in memory; one that ends in .gz is unpacked into a temporary
    file first. `batch` may be called from several threads.

    Raises: ValueError naming the file if it is missing, truncated, damaged or empty.
    """

    def __init__(self, path: str, spec: Spec) -> None:
        self.path = path
        self.spec = spec
        lengths = _record_lengths(path)
        self._ends = np.cumsum(lengths + (_HEADER + _FOOTER)) - _FOOTER
        self._starts = self._ends - lengths
        self._bytes = _contents(path)
        # TensorFlow takes a file that ends inside a record's header for one that ends before it.
        if (lengths + (_HEADER + _FOOTER)).sum() != len(self._bytes):
            problem = f"it ends in the middle of record {len(lengths)}"
            raise ValueError(f"{path}: not a complete TFRecord file ({problem})")
        if not len(lengths):
            raise ValueError(f"{path}: no examples in this file")

    def __len__(self) -> int:
        return len(self._starts)

    def batch(
        self, indices: Sequence[int] | np.ndarray, epochs: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """The examples at these positions: int32 (or float32) arrays `[n, length]` by name.

        Raises: ValueError naming the file if an example does not have the features of `spec`.
        """
        del epochs
        records = [self._bytes[self._starts[i] : self._ends[i]] for i in indices]
        try:
            features = tf.io.parse_example(records, dict(self.spec))
        except tf.errors.InvalidArgumentError as error:
            problem = error.message.rpartition("}} ")[2]  # without TensorFlow's name of the op
            raise ValueError(f"{self.path}: not the features expected: {problem}") from error
        return {
            name: value.numpy().astype(np.int32 if value.dtype == tf.int64 else np.float32)
            for name, value in features.items()
        }

    def lengths(self) -> dict[str, int]:
        """How many values each feature of the first example has, whatever `spec` says."""
        features = tf.train.Example.FromString(self._bytes[: self._ends[0]][_HEADER:]).features
        return {
            name: len(getattr(feature, kind).value)
            for name, feature in features.feature.items()
            if (kind := feature.WhichOneof("kind"))
        }


class RecordFiles:
    """Several files of one kind, one after another, as if they were one.

    Raises: ValueError as `RecordFile`.
    """

    def __init__(self, paths: Sequence[str], spec: Spec) -> None:
        self.spec = spec
        self.files = [RecordFile(path, spec) for path in paths]
        self._ends = np.cumsum([len(file) for file in self.files])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(
        self, indices: Sequence[int] | np.ndarray, epochs: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """As that of `RecordFile`."""
        indices = np.asarray(indices)
        owners = np.searchsorted(self._ends, indices, side="right")
        starts = self._ends - [len(file) for file in self.files]
        parts = {int(n): np.flatnonzero(owners == n) for n in np.unique(owners)}
        batches = {n: self.files[n].batch(indices[i] - starts[n]) for n, i in parts.items()}
        order = np.argsort(np.concatenate(list(parts.values())))
        return {
            name: np.concatenate([batch[name] for batch in batches.values()])[order]
            for name in self.spec
        }


def _record_lengths(path: str) -> np.ndarray:
    """Bytes in each record, int64; the checksums are verified on the way."""
    kind = "GZIP" if path.endswith(".gz") else ""
    lengths = tf.data.TFRecordDataset(path, kind).batch(_SCAN_BATCH).map(tf.strings.length)
    try:
        batches = [np.zeros(0, np.int64), *lengths.as_numpy_iterator()]
    except tf.errors.OpError as error:
        raise ValueError(f"{path}: not a complete TFRecord file ({error.message})") from error
    return np.concatenate(batches)


def _contents(path: str) -> bytes | mmap.mmap:
    if path.endswith(".gz"):
        with tempfile.TemporaryFile() as unpacked:
            with tf.io.gfile.GFile(path, "rb") as file, gzip.open(file) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            unpacked.flush()
            return _mapped(unpacked)
    if filesystem.is_remote(path):
        return filesystem.read_bytes(path)
    with open(path, "rb") as file:
        return _mapped(file)


def _mapped(file: IO[bytes]) -> bytes | mmap.mmap:
    if not os.fstat(file.fileno()).st_size:
        return b""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
