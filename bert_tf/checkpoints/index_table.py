"""The index of a TensorFlow checkpoint, checked before TensorFlow's own reader gets it.

That reader ends the process on an index with right checksums and impossible contents: a dimension
of -1, a tensor of two overlapping slices, a type that no file can hold. The format is a table as
in LevelDB (its doc/table_format.md), whose values are the messages of tensor_bundle.proto.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import google_crc32c
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from bert_tf.checkpoints.limits import MAX_SIZE, Allowance, is_shape

MAX_BYTES = 64 << 20
_MAGIC, _FOOTER = 0xDB4775248B80FB57, 48
_TRAILER = 5  # bytes after a block: how it is compressed, and its checksum
_MAX_ENTRIES = 100_000
_MAX_SHARDS = 10_000
_MAX_SLICES = 500
_UNREADABLE = (tf.resource, tf.variant)


class Index(NamedTuple):
    """What an index says: its tensors, and where they end in each file of data."""

    entries: dict[str, tensor_bundle_pb2.BundleEntryProto]
    shards: int
    data_sizes: dict[str, int]  # ending of a file -> the bytes that it must have
    stored: int  # bytes of all tensors

    def file_of(self, entry: Any) -> str:
        """Return the ending of the file that holds a tensor."""
        return _data_ending(entry.shard_id, self.shards)


def parse(data: bytes) -> Index:
    """Return what is in an index, whose every entry TensorFlow can read.

    Raises ValueError, or google.protobuf's DecodeError, if one is wrong.
    """
    table = _table(data)
    header = tensor_bundle_pb2.BundleHeaderProto.FromString(next(table, (b"", b""))[1])
    if not 0 < header.num_shards <= _MAX_SHARDS or header.endianness:
        raise ValueError(f"a checkpoint of {header.num_shards} files")
    entries = {}
    ends: dict[int, int] = defaultdict(int)
    stored = 0
    for key, value in table:
        entry = entries[key] = tensor_bundle_pb2.BundleEntryProto.FromString(value)
        _check_entry(entry)
        if not 0 <= entry.shard_id < header.num_shards:
            raise ValueError(f"a tensor in file {entry.shard_id} of {header.num_shards}")
        ends[entry.shard_id] = max(ends[entry.shard_id], entry.offset + entry.size)
        stored += entry.size
    for key, entry in entries.items():
        if entry.slices:
            _check_slices(key, entry, entries)
    sizes = {_data_ending(shard, header.num_shards): end for shard, end in ends.items()}
    named = {_text(key): entry for key, entry in entries.items()}
    return Index(named, header.num_shards, sizes, stored)


def _data_ending(shard: int, count: int) -> str:
    """Return what follows a checkpoint's prefix in the name of a file of data."""
    return f".data-{shard:05d}-of-{count:05d}"


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")  # keys of slices are no text


def _check_entry(entry: Any) -> None:
    try:
        kind = tf.as_dtype(entry.dtype)
    except TypeError:
        raise ValueError(f"a tensor of type {entry.dtype}") from None
    shape = [dim.size for dim in entry.shape.dim]
    # TensorFlow multiplies from the left: an empty tensor overflows as well.
    if not is_shape(shape) or math.prod(size or 1 for size in shape) >= MAX_SIZE:
        raise ValueError("a tensor whose shape is none")
    if entry.shape.unknown_rank:
        raise ValueError("a tensor of unknown rank")
    if entry.offset < 0 or entry.size < 0:
        raise ValueError("a tensor outside of its file")
    if entry.dtype > 100 or kind in _UNREADABLE:  # 100 and more are references
        raise ValueError(f"a tensor of type {kind.name}")
    if entry.slices:
        return
    count = math.prod(shape)
    # A text takes a byte at least, for its length.
    if count > entry.size if kind == tf.string else count * kind.size != entry.size:
        raise ValueError(f"a {kind.name} tensor of shape {shape} in {entry.size} bytes")


def _check_slices(key: bytes, entry: Any, entries: dict[bytes, Any]) -> None:
    """Raise ValueError unless the slices fill the tensor, and each is there with its shape."""
    if len(entry.slices) > _MAX_SLICES:
        raise ValueError(f"a tensor in {len(entry.slices)} slices")
    whole = [dim.size for dim in entry.shape.dim]
    ranges = []
    for part in entry.slices:
        extents = [(x.start, x.length if x.HasField("length") else -1) for x in part.extent]
        if len(extents) != len(whole):
            raise ValueError(f"a slice of another rank than its tensor, {len(whole)}")
        ends = [
            (start, start + length) if length != -1 else (0, size)
            for (start, length), size in zip(extents, whole, strict=True)
        ]
        if not all(0 <= a < b <= size for (a, b), size in zip(ends, whole, strict=True)):
            raise ValueError(f"a slice that leaves its tensor of shape {whole}")
        found = entries.get(_slice_key(key, extents))
        shape = [b - a for a, b in ends]
        if found is None or found.slices or found.dtype != entry.dtype:
            raise ValueError(f"a slice of shape {shape} is missing")
        if [dim.size for dim in found.shape.dim] != shape:
            raise ValueError(f"a slice of another shape than {shape}")
        ranges.append(ends)
    for one, other in itertools.combinations(ranges, 2):
        if all(a < d and c < b for (a, b), (c, d) in zip(one, other, strict=True)):
            raise ValueError("two slices that overlap")
    if sum(math.prod(b - a for a, b in ends) for ends in ranges) != math.prod(whole):
        raise ValueError("slices that leave gaps")


def _slice_key(key: bytes, extents: Sequence[tuple[int, int]]) -> bytes:
    """Return the key of a slice; source: EncodeTensorNameSlice in TensorFlow."""
    name = re.sub(rb"[\0\xff]", lambda byte: byte[0] + bytes([255 - byte[0][0]]), key)
    numbers = b"".join(_ordered(number) for extent in extents for number in extent)
    rank = bytes([1, len(extents)]) if extents else b"\0"
    return b"\0" + name + b"\0\x01" + rank + numbers


def _ordered(number: int) -> bytes:
    """Return a signed number as OrderedCode::WriteSignedNumIncreasing of TensorFlow writes it."""
    length = (number if number >= 0 else ~number).bit_length() // 7 + 1
    # As many leading ones as there are bytes, then a zero; all inverted in a negative number.
    header = ((1 << length) - 1) << (8 * length - length)
    if length > 9:
        raise ValueError("a slice of more than 2^62 rows")
    return (number % (1 << 8 * length) ^ header).to_bytes(length, "big")


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys, in their order, and values."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as an index does")
    place = len(data) - _FOOTER
    for _ in range(2):  # the block of meta data, which is not read
        _, place = _varint(data, place)
    start, place = _varint(data, place)
    size, _ = _varint(data, place)
    allowance = Allowance(len(data))
    before, count = None, 0
    for _, handle in _entries(_block(data, start, size), allowance):
        start, place = _varint(handle, 0)
        size, _ = _varint(handle, place)
        for key, value in _entries(_block(data, start, size), allowance):
            if before is not None and key <= before:
                raise ValueError("two entries of one name, or in the wrong order")
            if (before is None) != (key == b""):
                raise ValueError("an index without a header")
            if (count := count + 1) > _MAX_ENTRIES:
                raise ValueError(f"more than {_MAX_ENTRIES} tensors")
            yield key, value
            before = key


def _block(data: bytes, start: int, size: int) -> bytes:
    end = start + size
    if end + _TRAILER > len(data):
        raise ValueError("a block outside of the file")
    masked = struct.unpack("<I", data[end + 1 : end + _TRAILER])[0]
    checksum = google_crc32c.value(data[start : end + 1])
    if ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
        raise ValueError("a block does not match its checksum")
    if data[end]:
        raise ValueError("a compressed block, which TensorFlow does not write")
    return data[start:end]


def _entries(block: bytes, allowance: Allowance) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block; keys share beginnings with those before them."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block shorter than its list of restarts")
    whole = set()  # places of entries with a key of their own, at which TensorFlow may start
    place, key = 0, b""
    while place < end:
        at = place
        shared, place = _varint(block, place)
        rest, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + rest + length > end:
            raise ValueError("an entry outside of its block")
        if not shared:
            whole.add(at)
        key = key[:shared] + block[place : place + rest]
        allowance.take(0, key.decode("latin1"))
        place += rest + length
        yield key, block[place - length : place]
    starts = struct.unpack(f"<{restarts}I", block[end:-4])
    if starts[:1] != (0,) or list(starts) != sorted(starts) or not whole.issuperset(starts):
        raise ValueError("a block that can be entered between two entries")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number without an end")


def check_texts(entry: Any, data: bytes) -> None:
    """Raise ValueError unless a tensor of texts has the lengths that it says."""
    count = math.prod(dim.size for dim in entry.shape.dim)
    place = total = 0
    for _ in range(count):
        length, place = _varint(data, place)
        total += length
    if place + 4 + total != len(data):  # 4 bytes: the checksum of the lengths
        raise ValueError(f"texts of {total} bytes in {len(data)}")
