"""PaddlePaddle's `.pdparams`, ERNIE above all, without Paddle and without executing what is in it.

Such a file is a pickle of a dictionary: names to numpy arrays. The globals known here are those
that an array is pickled as.
"""

from __future__ import annotations

import math
import mmap
import re
from typing import Any

import ml_dtypes
import numpy as np

from bert_tf.checkpoints.files import reading
from bert_tf.checkpoints.limits import Allowance, is_shape
from bert_tf.checkpoints.names import Renamer
from bert_tf.checkpoints.pickles import Built, Function, Machine

_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1")
_LAYER = "bert/encoder/layer_{i}"
_PAIRS = {"kernel": ("weight", "w_0"), "bias": ("bias", "b_0")}
_NORM_PAIRS = {"gamma": ("weight", "_scale"), "beta": ("bias", "_bias")}
# (Google, PaddleNLP, Paddle 1). Kernels are [in, out] everywhere.
_DENSE = (
    (f"{_LAYER}/attention/self/query", "self_attn.q_proj", "multi_head_att_query_fc"),
    (f"{_LAYER}/attention/self/key", "self_attn.k_proj", "multi_head_att_key_fc"),
    (f"{_LAYER}/attention/self/value", "self_attn.v_proj", "multi_head_att_value_fc"),
    (f"{_LAYER}/attention/output/dense", "self_attn.out_proj", "multi_head_att_output_fc"),
    (f"{_LAYER}/intermediate/dense", "linear1", "ffn_fc_0"),
    (f"{_LAYER}/output/dense", "linear2", "ffn_fc_1"),
)
_NORM = (
    (f"{_LAYER}/attention/output/LayerNorm", "norm1", "post_att_layer_norm"),
    (f"{_LAYER}/output/LayerNorm", "norm2", "post_ffn_layer_norm"),
)
_OUTER_DENSE = (
    ("bert/pooler/dense", "bert.pooler.dense", "pooled_fc"),
    ("cls/predictions/transform/dense", "cls.predictions.transform", "mask_lm_trans_fc"),
)
_OUTER_NORM = (
    ("bert/embeddings/LayerNorm", "bert.embeddings.layer_norm", "pre_encoder_layer_norm"),
    (
        "cls/predictions/transform/LayerNorm",
        "cls.predictions.layer_norm",
        "mask_lm_trans_layer_norm",
    ),
)
_TABLE = (
    *(
        (f"bert/embeddings/{ours}", f"bert.embeddings.{ours}.weight", old)
        for ours, old in (
            ("word_embeddings", "word_embedding"),
            ("position_embeddings", "pos_embedding"),
            ("token_type_embeddings", "sent_embedding"),
            ("task_type_embeddings", "task_embedding"),
        )
    ),
    *(
        (f"{ours}/{part}", f"{theirs}.{new}", f"{old}.{last}")
        for ours, theirs, old in (
            *(
                (a, f"bert.encoder.layers.{{i}}.{b}", f"encoder_layer_{{i}}_{c}")
                for a, b, c in _DENSE
            ),
            *_OUTER_DENSE,
        )
        for part, (new, last) in _PAIRS.items()
    ),
    *(
        (f"{ours}/{part}", f"{theirs}.{new}", f"{old}{last}")
        for ours, theirs, old in (
            *(
                (a, f"bert.encoder.layers.{{i}}.{b}", f"encoder_layer_{{i}}_{c}")
                for a, b, c in _NORM
            ),
            *_OUTER_NORM,
        )
        for part, (new, last) in _NORM_PAIRS.items()
    ),
    ("cls/predictions/output_bias", "cls.predictions.decoder_bias", "mask_lm_out_fc.b_0"),
    ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight", "next_sent_fc.w_0"),
    ("cls/seq_relationship/output_bias", "cls.seq_relationship.bias", "next_sent_fc.b_0"),
    ("output_weights", "classifier.weight", "cls_out_w"),
    ("output_bias", "classifier.bias", "cls_out_b"),
)
to_paddle = Renamer((ours, theirs) for ours, theirs, _ in _TABLE)
_from_paddle = Renamer((theirs, ours) for ours, *both in _TABLE for theirs in both)
_NAMES = "StructuredToParameterName@@"  # Paddle's own table of names, no weight
_TIED = "cls.predictions.decoder_weight"


class _Dtype(Built):
    """numpy.dtype as a pickle makes it: its name first, then its state, which is left aside."""

    def __init__(self, name: Any = None, *_ignored: Any):
        if not isinstance(name, str) or name not in _TYPES:
            raise ValueError("an array of a type that no weights have")
        self.dtype = np.dtype(f"<{name}")

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|"):
            raise ValueError("the numbers are big-endian")


class _Array(Built):
    """numpy.ndarray as a pickle makes it: `_reconstruct`, then its state."""

    array: np.ndarray

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without shape and type")
        _version, shape, kind, fortran, data = state
        if not isinstance(kind, _Dtype) or not isinstance(data, bytes):
            raise ValueError("an array without type or numbers")
        if not is_shape(shape):
            raise ValueError("an array whose shape is none")
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
        order: Any = "F" if fortran else "C"
        self.array = np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _reconstruct(*_ignored: Any) -> _Array:
    """numpy's `_reconstruct(ndarray, (0,), b"b")`."""
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """`_codecs.encode(text, "latin1")`: how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes that are not written in latin1")
    return text.encode("latin1")


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): Function(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): Function(_reconstruct),
    ("numpy", "ndarray"): None,  # named, but never called
    ("numpy", "dtype"): Function(_Dtype),
    ("_codecs", "encode"): Function(_encode),
}


def read(path: str) -> dict[str, np.ndarray]:
    """Weights under Google's names and in Google's layout, as float32.

    What is no part of BERT keeps its name. A masked-LM output layer that equals the word
    embeddings it is tied to is left out.

    Raises:
      UnsafePickleError: the pickle refers to anything but arrays; nothing was run.
      DamagedCheckpointError: the file is truncated or corrupted.
      ValueError: a weight is there twice.
    """
    result: dict[str, np.ndarray] = {}
    tied = None
    for name, array in _arrays(path).items():
        bare = re.sub(r"^(ernie|model)\.|^(?=(embeddings|encoder|pooler)\.)", "bert.", name)
        ours = _from_paddle(bare) or name
        if ours in result:
            raise ValueError(f"{path} holds {ours} twice, the second time as {name}")
        if name == _TIED:
            tied = _float32(array)
        else:
            result[ours] = _layout(ours, _float32(array))
    words = result.get("bert/embeddings/word_embeddings")
    if tied is not None and not np.array_equal(tied, words if words is not None else ()):
        result[_TIED] = tied
    return result


def _float32(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint16:  # how Paddle writes bfloat16
        array = array.view(ml_dtypes.bfloat16)
        return array.astype(np.float32)
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _layout(name: str, tensor: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tensor.T) if name.endswith("output_weights") else tensor


def _arrays(path: str) -> dict[str, np.ndarray]:
    """What is in the file, by the names in it."""
    with reading(path) as (local, allowance), open(local, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            state = Machine(_GLOBALS, allowance, "latin1").load(data)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}, not a dictionary of arrays")
        state.pop(_NAMES, None)
        return {name: _array(name, value, allowance) for name, value in state.items()}


def _array(name: Any, value: Any, allowance: Allowance) -> np.ndarray:
    if not isinstance(name, str):
        raise ValueError(f"an entry's name is a {type(name).__name__}, not a text")
    if isinstance(value, tuple) and len(value) == 2:  # (its name at Paddle, the array)
        value = value[1]
    allowance.take(0, name)
    array = getattr(value, "array", None) if isinstance(value, _Array) else None
    if array is None:
        raise ValueError(f"entry {name!r:.80} is a {type(value).__name__}, not an array")
    allowance.take(array.nbytes)
    return array
