"""Rows as the bytes of tf.Examples and of TFRecord files, without TensorFlow.

The encoding is protocol buffers': a feature that is as long in every row, and most of what is in
it, is bytes that are put together once. Google's program leaves the order of an example's features
to a hash map that is seeded anew in every process; here it is that of the spec.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from operator import itemgetter

import google_crc32c

_LENGTH_DELIMITED = 2
_FLOATS, _INTS = 2, 3  # of Feature: float_list, int64_list
_MASK = 0xA282EAD8  # of TFRecord's checksums
_ONE = struct.pack("<f", 1.0)
_MOST_KNOWN = 50_000  # features, some 10 MB


def varint(value: int) -> bytes:
    """A number of 0 or more, seven bits in a byte."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(payload)) + payload


@functools.lru_cache(maxsize=65536)
def _feature_start(name: str, kind: int, length: int) -> bytes:
    """What comes before the values of a feature, which are so many bytes."""
    values = b"\x0a" + varint(length)
    feature = varint(kind << 3 | _LENGTH_DELIMITED) + varint(len(values) + length) + values
    key = _field(1, name.encode())
    value = b"\x12" + varint(len(feature) + length) + feature
    return b"\x0a" + varint(len(key) + len(value) + length) + key + value


def ints_feature(name: str, values: bytes) -> bytes:
    """A feature of integers, given as varints one after another."""
    return _feature_start(name, _INTS, len(values)) + values


def floats_feature(name: str, values: bytes) -> bytes:
    """A feature of floats, given as little-endian float32."""
    return _feature_start(name, _FLOATS, len(values)) + values


def example(features: Sequence[bytes]) -> bytes:
    """A tf.Example of features."""
    return _field(1, b"".join(features))


def record(data: bytes) -> bytes:
    """A record of a TFRecord file: its length, the data, and the checksums of both."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


class RowEncoder:
    """Rows for pre-training -> the bytes of their tf.Examples.

    Args:
      lengths: the features in their order, and how many values each has.
      num_ids: ids are below it.
    """

    def __init__(self, lengths: Mapping[str, int], num_ids: int):
        self._lengths = lengths
        self._varints = [varint(value) for value in range(num_ids)]
        self._floats = {name for name in lengths if name.endswith("_weights")}
        self._known: dict[tuple[str, object], bytes] = {}

    def __call__(self, row: Mapping[str, Sequence[int] | bytes]) -> bytes:
        """Of a row: the first values of each feature, the rest are 0.

        A feature of few forms is given as bytes, each a value below 128. Those called
        `..._weights` are floats, and are given as what they are weights of: so many are 1.
        """
        features, known = [], self._known
        for name, length in self._lengths.items():
            values = row[name]
            if name in self._floats:
                ready = known.get((name, len(values)))
                features.append(ready or self._learn(name, len(values)))
            elif type(values) is bytes:
                ready = known.get((name, values))
                features.append(ready or self._learn(name, values))
            else:
                # Fetched by one call, which is faster than one for each value. The last 0 is
                # padding, if there is any, or cut off: itemgetter gives no tuple for one value.
                joined = b"".join(itemgetter(*values, 0)(self._varints))
                missing = length - len(values) - 1
                joined = joined + bytes(missing) if missing >= 0 else joined[:-1]
                features.append(ints_feature(name, joined))
        return example(features)

    def _learn(self, name: str, values: bytes | int) -> bytes:
        """Makes a feature, which is remembered."""
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        length = self._lengths[name]
        self._known[name, values] = made = (
            floats_feature(name, (_ONE * values).ljust(4 * length, b"\0"))
            if isinstance(values, int)
            else ints_feature(name, values.ljust(length, b"\0"))
        )
        return made
