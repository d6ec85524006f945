"""Object-based checkpoints of TensorFlow Model Garden, and its SavedModels on TF-Hub, as data.

`tf.train.Checkpoint` keys tensors by the way to them through Python's attributes and, in a graph
beside them, notes each variable's name. Those names hardly differ between the generations of Model
Garden, so they are what is read; written are the attributes of both generations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from bert_tf import filesystem
from bert_tf.checkpoints import google, names
from bert_tf.checkpoints.files import damaged, staged
from bert_tf.checkpoints.names import Renamer, is_optimizer_state
from bert_tf.config import BertConfig

_SLOT = ".OPTIMIZER_SLOT"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAX_NODES = 100_000
_LAYER = "bert/encoder/layer_{i}"
# (Google, the variable's name at Model Garden, the attributes that lead to it in its BertEncoderV2;
# in a pretrainer the encoder's stand under `encoder_network`).
_DENSE = (
    (f"{_LAYER}/attention/self/query", "self_attention/query", "_attention_layer._query_dense"),
    (f"{_LAYER}/attention/self/key", "self_attention/key", "_attention_layer._key_dense"),
    (f"{_LAYER}/attention/self/value", "self_attention/value", "_attention_layer._value_dense"),
    (
        f"{_LAYER}/attention/output/dense",
        "self_attention/attention_output",
        "_attention_layer._output_dense",
    ),
    (f"{_LAYER}/intermediate/dense", "intermediate", "_intermediate_dense"),
    (f"{_LAYER}/output/dense", "output", "_output_dense"),
)
_NORM = (
    (f"{_LAYER}/attention/output/LayerNorm", "self_attention_layer_norm", "_attention_layer_norm"),
    (f"{_LAYER}/output/LayerNorm", "output_layer_norm", "_output_layer_norm"),
)
_MLM = "cls/predictions/transform"
_TABLE = (
    (
        "bert/embeddings/word_embeddings",
        "word_embeddings/embeddings",
        "_embedding_layer.embeddings",
    ),
    (
        "bert/embeddings/position_embeddings",
        "position_embedding/embeddings",
        "_position_embedding_layer.embeddings",
    ),
    (
        "bert/embeddings/token_type_embeddings",
        "type_embeddings/embeddings",
        "_type_embedding_layer.embeddings",
    ),
    *(
        (
            f"bert/embeddings/LayerNorm/{x}",
            f"embeddings/layer_norm/{x}",
            f"_embedding_norm_layer.{x}",
        )
        for x in ("gamma", "beta")
    ),
    *(
        (
            f"{ours}/{x}",
            f"transformer/layer_{{i}}/{name}/{x}",
            f"_transformer_layers.{{i}}.{way}.{x}",
        )
        for rows, parts in ((_DENSE, ("kernel", "bias")), (_NORM, ("gamma", "beta")))
        for ours, name, way in rows
        for x in parts
    ),
    *(
        (f"bert/pooler/dense/{x}", f"pooler_transform/{x}", f"_pooler_layer.{x}")
        for x in ("kernel", "bias")
    ),
    *(
        (f"{_MLM}/dense/{x}", f"bert/{_MLM}/dense/{x}", f"masked_lm.dense.{x}")
        for x in ("kernel", "bias")
    ),
    *(
        (f"{_MLM}/LayerNorm/{x}", f"bert/{_MLM}/LayerNorm/{x}", f"masked_lm.layer_norm.{x}")
        for x in ("gamma", "beta")
    ),
    (
        "cls/predictions/output_bias",
        "bert/cls/predictions/output_bias/bias",
        "masked_lm.output_bias/bias",
    ),
)
to_model_garden = Renamer((ours, theirs) for ours, theirs, _ in _TABLE)
_from_model_garden = Renamer(
    (
        *((theirs, ours) for ours, theirs, _ in _TABLE),
        ("predictions/transform/logits/kernel", "cls/seq_relationship/output_weights"),
        ("predictions/transform/logits/bias", "cls/seq_relationship/output_bias"),
    )
)
_attributes = Renamer((ours, way) for ours, _, way in _TABLE)
_SCOPE = re.compile(r"^(bert_encoder(_v2)?(_\d+)?|encoder|bert_model)/")
# The first generation (2019), in today's words.
_OLDER = (
    (
        re.compile(r"^embedding_postprocessor/(type|position)_embeddings$"),
        r"\1_embedding/embeddings",
    ),
    (re.compile(r"^type_embedding/"), "type_embeddings/"),
    (re.compile(r"^embedding_postprocessor/layer_norm/"), "embeddings/layer_norm/"),
    (re.compile(r"^(encoder/)?layer_(?=\d)"), "transformer/layer_"),
    (re.compile(r"/self_attention_output/"), "/self_attention/attention_output/"),
)
_SPLIT = re.compile(r"/(query|key|value)/|/attention/output/dense/kernel$")


def google_name(name: str) -> str | None:
    """Google's name of a variable of Model Garden's, of either generation; None for any other."""
    inside = name
    while (found := _from_model_garden(inside)) is None:
        shorter = _SCOPE.sub("", inside)
        if shorter == inside:
            break
        inside = shorter
    for pattern, words in () if found else _OLDER:
        inside = pattern.sub(words, inside)
    return found or _from_model_garden(inside)


def variables(prefix: str) -> dict[str, str]:
    """The name of each variable, by its key; those that are nobody's slots.

    Raises:
      DamagedCheckpointError: as `read`.
    """
    reader = google.reader(prefix)
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    try:
        graph.ParseFromString(reader.get_tensor(_GRAPH))
    except Exception as error:  # DecodeError, OpError, ...
        raise damaged(prefix, error) from error
    present = reader.get_variable_to_shape_map()
    if len(graph.nodes) > _MAX_NODES or any(len(x.attributes) > _MAX_NODES for x in graph.nodes):
        raise damaged(prefix, f"a graph of more than {_MAX_NODES} objects")
    return {
        attribute.checkpoint_key: attribute.full_name
        for node in graph.nodes
        for attribute in node.attributes
        if attribute.checkpoint_key in present and _SLOT not in attribute.checkpoint_key
    }


def count_slots(prefix: str) -> int:
    """How many tensors are an optimizer's, which `read` leaves out."""
    return sum(_SLOT in key for key in google.reader(prefix).get_variable_to_shape_map())


def stored_case(prefix: str) -> bool | None:
    """The `do_lower_case` that TF-Hub's modules hold as a variable; None where there is none."""
    open_file = google.reader(prefix)
    key = "do_lower_case/.ATTRIBUTES/VARIABLE_VALUE"
    if open_file.get_variable_to_shape_map().get(key) != []:
        return None
    (_, value), *_ = google.tensors(open_file, [key])
    return bool(value)


def sizes(prefix: str) -> dict[str, int]:
    """`names.sizes` without reading a tensor, and the number of heads where kernels are split."""
    by_key = google.reader(prefix).get_variable_to_shape_map()
    named = ((google_name(name), key) for key, name in variables(prefix).items())
    shapes = {name: tuple(by_key[key]) for name, key in named if name}
    query = shapes.get("bert/encoder/layer_0/attention/self/query/kernel", ())
    heads = {"num_attention_heads": query[1]} if len(query) == 3 else {}  # [E, N, H]
    return names.sizes(shapes) | heads


def read(prefix: str) -> dict[str, np.ndarray]:
    """Weights under Google's names and in Google's layout; what is no part of BERT keeps its name.

    Left out: optimizers' state, counters, and what is no floating point number.

    Raises:
      DamagedCheckpointError: a file is missing, truncated, or fails its checksums.
      ValueError: there is no BERT in it, or two.
    """
    open_file = google.reader(prefix)
    types = open_file.get_variable_to_dtype_map()
    wanted = {key: name for key, name in variables(prefix).items() if types[key].is_floating}
    result: dict[str, np.ndarray] = {}
    for key, tensor in google.tensors(open_file, wanted):
        name = google_name(wanted[key])
        if name in result:
            raise ValueError(f"{prefix} holds {name} twice; it has more than one encoder")
        result[name or wanted[key]] = _googles_layout(name or "", tensor)
    if names.WORDS not in result:
        called = ", ".join(sorted(wanted.values())[:3]) or "nothing"
        raise ValueError(
            f"{prefix} was written by tf.train.Checkpoint and holds no BERT of Model Garden's: "
            f"its variables are called {called}; write it with tf.compat.v1.train.Saver or as "
            ".safetensors"
        )
    return result


def _googles_layout(name: str, tensor: np.ndarray) -> np.ndarray:
    tensor = tensor.astype(np.float32, copy=False)
    if name == "cls/seq_relationship/output_weights":
        return np.ascontiguousarray(tensor.T)  # [E, 2] there
    if not _SPLIT.search(name):
        return tensor
    if name.endswith("/bias"):
        return tensor.reshape(-1)  # [N, H] there
    if "/output/" in name:
        return tensor.reshape(-1, tensor.shape[-1])  # [N, H, E]
    return tensor.reshape(tensor.shape[0], -1)  # [E, N, H]


def write(
    prefix: str,
    source: Mapping[str, Any],
    config: BertConfig,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Writes what `tf.train.Checkpoint(encoder=...)` reads; with masked-LM head, `(model=...)`.

    Model Garden's BertEncoder and BertEncoderV2, and a BertPretrainerV2 of either, restore it.

    Raises:
      ValueError: a weight has no place there (a next-sentence head, a classifier).
      OSError: as `google.write`.
    """
    weights = {n: np.asarray(x) for n, x in source.items() if not is_optimizer_state(n)}
    if lost := sorted(name for name in weights if _attributes(name) is None):
        raise ValueError(
            f"Model Garden's encoder and pretrainer have no place for {', '.join(lost[:5])}; "
            "write them in another format, or leave them out"
        )
    root = _Node()
    pretrainer = any(name.startswith("cls/") for name in weights)
    encoder = root if not pretrainer else root.child("encoder_network")
    for name, array in weights.items():
        way = _attributes(name) or ""
        variable = tf.Variable(_their_layout(name, array, config), name=to_model_garden(name))
        (root if name.startswith("cls/") else encoder).put(way.split("."), variable)
    encoder.number_layers()
    base = os.path.basename(prefix)
    with staged(prefix, last=f"{base}.index") as staging, tf.device("CPU:0"):
        for name, contents in (beside or {}).items():
            filesystem.write_bytes(os.path.join(staging, name), contents)
        named = {"model" if pretrainer else "encoder": root}
        tf.train.Checkpoint(**named).write(os.path.join(staging, base))


class _Node(tf.Module):
    """An object with attributes, which is all that is saved of Model Garden's layers."""

    def child(self, name: str) -> _Node:
        if not hasattr(self, name):
            setattr(self, name, _Node())
        return getattr(self, name)

    def put(self, way: list[str], variable: tf.Variable) -> None:
        node = self
        for name in way[:-1]:
            node = node.child(name)
        setattr(node, way[-1], variable)

    def number_layers(self) -> None:
        """Adds the ways of the functional encoder: its layers with weights, counted from 0."""
        names = ("_embedding_layer", "_position_embedding_layer", "_type_embedding_layer")
        layers = [getattr(self, name) for name in (*names, "_embedding_norm_layer")]
        stack = {
            name: layer for name, layer in vars(self._transformer_layers).items() if name.isdigit()
        }
        layers += [stack[name] for name in sorted(stack, key=int)]
        layers += [self._pooler_layer] if hasattr(self, "_pooler_layer") else []
        for number, layer in enumerate(layers):
            setattr(self, f"layer_with_weights-{number}", layer)


def _their_layout(name: str, tensor: np.ndarray, config: BertConfig) -> np.ndarray:
    if not _SPLIT.search(name):
        return tensor
    heads = config.num_attention_heads
    if "/output/" in name:
        return tensor.reshape(heads, -1, tensor.shape[-1])  # [N, H, E]
    return tensor.reshape(*tensor.shape[:-1], heads, -1)  # [E, N, H], [N, H]
