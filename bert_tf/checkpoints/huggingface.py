"""Hugging Face's files: `model.safetensors`, `pytorch_model.bin`, and both in shards.

Safetensors is a JSON header with types, shapes and offsets, then raw numbers; the safetensors
package checks the header against the file's size before it takes memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from bert_tf import filesystem
from bert_tf.checkpoints import names, pytorch
from bert_tf.checkpoints.families import Contents
from bert_tf.checkpoints.files import damaged, reading, size, staged
from bert_tf.checkpoints.labels import default_labels
from bert_tf.checkpoints.limits import RefusedError
from bert_tf.checkpoints.location import is_plain_name
from bert_tf.config import BertConfig

_INDEX = ".index.json"
_NARROW = ("F8_", "F6_", "F4")  # of which NumPy has none
_ARCHITECTURES = (  # the first whose weights are there
    (("cls/predictions/output_bias", "cls/seq_relationship/output_bias"), "BertForPreTraining"),
    (("cls/predictions/output_bias",), "BertForMaskedLM"),
    (("cls/seq_relationship/output_bias",), "BertForNextSentencePrediction"),
    (("cls/squad/output_bias",), "BertForQuestionAnswering"),
    (("output_bias", "bert/pooler/dense/bias"), "BertForSequenceClassification"),
    (("output_bias",), "BertForTokenClassification"),
    ((), "BertModel"),
)


def read(path: str) -> dict[str, np.ndarray]:
    """Weights under Google's names and in Google's layout; floating point becomes float32.

    Args:
      path: a `.safetensors` or `.bin` file, or the `.index.json` of sharded ones.

    Raises:
      DamagedCheckpointError: a file is missing, truncated or not what its name says.
      ValueError: a malicious pickle or shard name, or a quantized model.
    """
    return contents(path).tensors


def contents(path: str) -> Contents:
    """As `read`, with the family (ERNIE's conversion is one) and a note of narrower numbers."""
    tensors = _read_shards(path) if path.endswith(_INDEX) else _read_file(path)
    notes = names.narrow_numbers(tensors.values())
    bare = [names.WRAPPER.sub("", name) for name in tensors]
    ernie = any(name.startswith("ernie.") for name in bare)
    if wrapped := sum(name not in tensors for name in bare):
        notes += (f"`module.` or `_orig_mod.` in front of {wrapped} names left out",)
    for name in list(tensors):  # one after the other: both kinds of all would take twice the memory
        if tensors[name].dtype.name in names.FLOATS:
            tensors[name] = tensors[name].astype(np.float32)
    try:
        renamed = names.from_hugging_face(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Contents(renamed, "Hugging Face (ERNIE)" if ernie else "Hugging Face", notes)


def _read_file(path: str) -> dict[str, np.ndarray]:
    if not path.endswith(".safetensors"):
        return pytorch.read(path)
    with (
        reading(path) as (local, allowance),
        safetensors.safe_open(local, framework="numpy") as file,
    ):
        tensors = {}
        for name in file.keys():  # noqa: SIM118
            allowance.take(0, name)
            if (kind := file.get_slice(name).get_dtype()).startswith(_NARROW):
                raise RefusedError(
                    f"{name} holds {kind} numbers; give a checkpoint in F32, F16 or BF16"
                )
            tensors[name] = file.get_tensor(name)
        return tensors


def _read_shards(path: str) -> dict[str, np.ndarray]:
    size(path)
    try:
        weight_map = filesystem.read_json(path, dict)["weight_map"]
        shards = sorted(set(weight_map.values()))
        expected = set(weight_map)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    tensors: dict[str, np.ndarray] = {}
    for shard in shards:
        if not is_plain_name(shard):
            raise ValueError(f"{path} names the file {shard!r:.80} outside of its own folder")
        tensors.update(_read_file(os.path.join(os.path.dirname(path), shard)))
    if lacking := sorted(expected - tensors.keys()):
        raise damaged(path, f"its files lack {len(lacking)} tensors, the first is {lacking[0]}")
    return tensors


def write(
    path: str,
    tensors: Mapping[str, Any],
    config: BertConfig,
    beside: Mapping[str, bytes] | None = None,
    labels: Sequence[str] | None = None,
) -> None:
    """Writes a `.safetensors` file with Hugging Face's names, `config.json` beside it.

    Raises:
      ValueError: there are more or fewer labels than the classifier has outputs.
      OSError: as `google.write`.
    """
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    files = dict(beside or {}) | {"config.json": _config_json(config, arrays, labels)}
    base = os.path.basename(path)
    with staged(path, last=base) as staging:
        for name, contents in files.items():
            filesystem.write_bytes(os.path.join(staging, name), contents)
        try:
            with filesystem.local_target(os.path.join(staging, base)) as local:
                safetensors.numpy.save_file(
                    names.to_hugging_face_tensors(arrays),
                    local,
                    metadata={"format": "pt"},  # transformers refuses files that do not say so
                )
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error


def _config_json(
    config: BertConfig, tensors: Mapping[str, np.ndarray], labels: Sequence[str] | None
) -> bytes:
    values = config.to_hf_dict()
    name = next(name for needed, name in _ARCHITECTURES if set(needed) <= tensors.keys())
    if values["model_type"] == "ernie":
        name = name.replace("Bert", "Ernie")
    values["architectures"] = [name]
    if names.DECODER not in tensors:  # the scores of words are made with their embeddings
        values.pop("tie_word_embeddings", None)
    if "output_bias" in tensors:
        count = len(tensors["output_bias"])
        if labels and len(labels) != count:
            raise ValueError(
                f"the classifier has {count} outputs, but {len(labels)} labels "
                f"({', '.join(labels)}); mend labels.json, or id2label in the config"
            )
        if labels or len(values.get("id2label") or ()) != count:
            labels = labels or default_labels(count)
            values["id2label"] = {str(i): label for i, label in enumerate(labels)}
            values["label2id"] = {label: i for i, label in enumerate(labels)}
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
