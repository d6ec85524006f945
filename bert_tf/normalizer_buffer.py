"""The model buffer of TF.Text's `FastBertNormalize` op, built from any map of characters.

The op replaces every code point of a string by what its model says. TF.Text builds models of its
own rules only, which are not Google's; this module writes a model of ours. The format is a
flatbuffer (`fast_bert_normalizer_model.fbs` of tensorflow/text) around a trie in darts-clone's
layout: an array of uint32 units, in which the child of a node by a byte is the unit
`node ^ offset ^ byte`. Here every key is the UTF-8 form of one code point, so the places follow
from arithmetic: the bytes that continue a character are 0x80 to 0xBF, hence one aligned block of
64 units for the children of a node, and nothing has to be searched for.
"""

from collections.abc import Iterator, Mapping

import flatbuffers
import numpy as np

# A value of the trie: changed << 30 | offset in the pool << 6 | length in bytes.
_CHANGED = 1 << 30
_LENGTH_BITS = 6
_MAX_LENGTH = (1 << _LENGTH_BITS) - 1
_MAX_POOL = 1 << 24

# A unit of the trie: offset << 10 | has a value << 8 | byte, or, for a value, top bit | value.
_OFFSET_SHIFT = 10
_HAS_VALUE = 1 << 8
_IS_VALUE = 1 << 31
_MAX_UNITS = 1 << 21
_CONTINUATION = 0x80
_BLOCK = 64


def build(replacements: Mapping[int, str]) -> np.ndarray:
    """Returns the buffer, uint8 [bytes], for a map of code points to their replacements.

    A code point that the map does not hold stays as it is. Raises `ValueError` when a replacement
    or all of them together are longer than the format can hold.
    """
    pool = bytearray()
    value_of: dict[str, int] = {"": _CHANGED}
    for code_point, text in replacements.items():
        if text in value_of:
            continue
        encoded = text.encode("utf-8")
        if len(encoded) > _MAX_LENGTH or len(pool) + len(encoded) > _MAX_POOL:
            raise ValueError(
                f"U+{code_point:04X} becomes {len(encoded)} bytes, with {len(pool)} bytes before "
                f"it; the format holds {_MAX_LENGTH} a character and {_MAX_POOL} in all"
            )
        value_of[text] = _CHANGED | len(pool) << _LENGTH_BITS | len(encoded)
        pool += encoded
    # The trie cannot hold U+0000: its value has a field of its own.
    keys = sorted(code_point for code_point in replacements if code_point)
    values = np.array([value_of[replacements[key]] for key in keys], np.uint32)
    zero = value_of[replacements[0]] if 0 in replacements else 0
    return _flatbuffer(_trie(np.array(keys, np.uint32), values), zero, bytes(pool))


def _trie(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The units, uint32 [U], that map code points [K] to values [K]."""
    units = np.zeros(_MAX_UNITS, np.uint32)
    nodes = np.zeros(len(keys), np.uint32)
    # Unit 0 is the root, units 1 to 255 are its children, so its offset is 0.
    size = 256
    for members, byte_columns in _utf8(keys):
        node = byte_columns[0]
        units[node] = node
        for byte in byte_columns[1:]:
            parents, place = np.unique(node, return_inverse=True)
            blocks = size + _BLOCK * np.arange(len(parents), dtype=np.uint32)
            size += _BLOCK * len(parents)
            units[parents] |= (parents ^ blocks ^ _CONTINUATION) << _OFFSET_SHIFT
            node = blocks[place] + byte - _CONTINUATION
            units[node] = byte
        nodes[members] = node
    # Equal values share one unit. They start at a multiple of 256, so that no byte leads from a
    # character's node to anything but a value, which matches no byte.
    distinct, place = np.unique(values, return_inverse=True)
    first = -(-size // 256) * 256
    size = first + len(distinct)
    if size > _MAX_UNITS:
        raise ValueError(f"{len(keys)} characters need {size} units; the limit is {_MAX_UNITS}")
    units[first:size] = distinct | _IS_VALUE
    leaves = (first + place).astype(np.uint32)
    units[nodes] |= _HAS_VALUE | (nodes ^ leaves) << _OFFSET_SHIFT
    return units[:size]


def _utf8(code_points: np.ndarray) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields, for 1 to 4 bytes, which code points have that length, and each byte of theirs."""
    length = 1 + sum(code_points >= first for first in (0x80, 0x800, 0x10000))
    for n, lead in enumerate((0, 0xC0, 0xE0, 0xF0), start=1):
        members = np.flatnonzero(length == n)
        chosen = code_points[members]
        tail = [_CONTINUATION | chosen >> 6 * k & 0x3F for k in reversed(range(n - 1))]
        yield members, [lead | chosen >> 6 * (n - 1), *tail]


def _flatbuffer(trie: np.ndarray, zero: int, pool: bytes) -> np.ndarray:
    builder = flatbuffers.Builder(trie.nbytes + len(pool) + 256)
    trie_place = builder.CreateNumpyVector(trie)
    pool_place = builder.CreateByteVector(pool)
    builder.StartObject(4)
    builder.PrependBoolSlot(0, False, False)  # lower_case_nfd_strip_accents, for information only
    builder.PrependUOffsetTRelativeSlot(1, trie_place, 0)
    builder.PrependInt32Slot(2, zero, 0)
    builder.PrependUOffsetTRelativeSlot(3, pool_place, 0)
    builder.Finish(builder.EndObject())
    return np.frombuffer(bytes(builder.Output()), np.uint8)
