"""HDF5 files of other Keras BERTs: transformers' tf_model.h5, bert4keras, keras-bert, KerasHub.

Keras 2 notes each layer's weights in the order they were made, Keras 3 numbers them; which library
wrote a file is told by the names of the layers. A `.keras` archive is read as the HDF5 file in it.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from bert_tf.checkpoints import hdf5
from bert_tf.checkpoints.files import reading, size
from bert_tf.checkpoints.limits import Allowance, RefusedError
from bert_tf.checkpoints.names import Renamer, narrow_numbers

Group = tuple[str, list[tuple[str, np.ndarray]]]  # a layer's name; its weights' names and values

_SELF = "bert/encoder/layer_{i}/attention/self"
_TRANSFORM = "cls/predictions/transform"
# A layer of bert4keras or keras-bert, and the scopes of its kernels and biases in their order.
_LAYERS = (
    (
        r"(?:Transformer|Encoder)-(\d+)-MultiHeadSelfAttention",
        (
            *(f"{_SELF}/{name}" for name in ("query", "key", "value")),
            "bert/encoder/layer_{i}/attention/output/dense",
        ),
    ),
    (
        r"(?:Transformer|Encoder)-(\d+)-FeedForward",
        ("bert/encoder/layer_{i}/intermediate/dense", "bert/encoder/layer_{i}/output/dense"),
    ),
    (
        r"(?:Transformer|Encoder)-(\d+)-MultiHeadSelfAttention-Norm",
        ("bert/encoder/layer_{i}/attention/output/LayerNorm",),
    ),
    (
        r"(?:Transformer|Encoder)-(\d+)-FeedForward-Norm",
        ("bert/encoder/layer_{i}/output/LayerNorm",),
    ),
    (r"Embedding-Norm", ("bert/embeddings/LayerNorm",)),
    (r"Embedding-Token", ("bert/embeddings/word_embeddings",)),
    (r"Embedding-Position", ("bert/embeddings/position_embeddings",)),
    (r"Embedding-Segment", ("bert/embeddings/token_type_embeddings",)),
    (r"Pooler-Dense|NSP-Dense", ("bert/pooler/dense",)),
    (r"MLM-Dense", (f"{_TRANSFORM}/dense",)),
    (r"MLM-Norm", (f"{_TRANSFORM}/LayerNorm",)),
    (r"MLM-Bias|MLM-Sim", ("cls/predictions/output",)),
    (r"NSP-Proba|NSP", ("cls/seq_relationship/output",)),
)
# What transformers' TensorFlow classes call otherwise than Google.
_HUGGING_FACE = (
    ("bert/embeddings/word_embeddings", "bert/embeddings/word_embeddings/weight"),
    ("bert/embeddings/position_embeddings", "bert/embeddings/position_embeddings/embeddings"),
    ("bert/embeddings/token_type_embeddings", "bert/embeddings/token_type_embeddings/embeddings"),
    ("cls/predictions/output_bias", "cls/predictions/bias"),
    ("cls/seq_relationship/output_weights", "cls/seq_relationship/kernel"),
    ("cls/seq_relationship/output_bias", "cls/seq_relationship/bias"),
    ("cls/squad/output_weights", "qa_outputs/kernel"),
    ("cls/squad/output_bias", "qa_outputs/bias"),
    ("output_weights", "classifier/kernel"),
    ("output_bias", "classifier/bias"),
)
_KERAS_HUB = (
    ("bert/embeddings/word_embeddings", "token_embedding/0"),
    ("bert/embeddings/position_embeddings", "position_embedding/0"),
    ("bert/embeddings/token_type_embeddings", "segment_embedding/0"),
    *(
        (f"{ours}/{part}", f"{theirs}/{number}")
        for ours, theirs, parts in (
            ("bert/embeddings/LayerNorm", "embeddings_layer_norm", ("gamma", "beta")),
            ("bert/pooler/dense", "pooled_dense", ("kernel", "bias")),
            (f"{_SELF}/query", "layer_{i}/_self_attention_layer/query_dense", ("kernel", "bias")),
            (f"{_SELF}/key", "layer_{i}/_self_attention_layer/key_dense", ("kernel", "bias")),
            (f"{_SELF}/value", "layer_{i}/_self_attention_layer/value_dense", ("kernel", "bias")),
            (
                "bert/encoder/layer_{i}/attention/output/dense",
                "layer_{i}/_self_attention_layer/output_dense",
                ("kernel", "bias"),
            ),
            (
                "bert/encoder/layer_{i}/attention/output/LayerNorm",
                "layer_{i}/_self_attention_layer_norm",
                ("gamma", "beta"),
            ),
            (
                "bert/encoder/layer_{i}/intermediate/dense",
                "layer_{i}/_feedforward_intermediate_dense",
                ("kernel", "bias"),
            ),
            (
                "bert/encoder/layer_{i}/output/dense",
                "layer_{i}/_feedforward_output_dense",
                ("kernel", "bias"),
            ),
            (
                "bert/encoder/layer_{i}/output/LayerNorm",
                "layer_{i}/_feedforward_layer_norm",
                ("gamma", "beta"),
            ),
        )
        for number, part in enumerate(parts)
    ),
)
_from_hugging_face = Renamer((theirs, ours) for ours, theirs in _HUGGING_FACE)
_from_keras_hub = Renamer((theirs, ours) for ours, theirs in _KERAS_HUB)


def read(path: str) -> tuple[str, dict[str, np.ndarray], tuple[str, ...]]:
    """The family, weights under Google's names and in Google's layout, and notes.

    Floating point becomes float32, which is noted of narrower numbers.

    What is no part of BERT keeps its name.

    Raises:
      DamagedCheckpointError: the file is missing, truncated or corrupted.
      ValueError: none of these libraries wrote it, or it has a Lambda layer.
    """
    with reading(path) as (local, allowance):
        source = _archived(local, size(path)) if path.endswith(".keras") else local
        with hdf5.opened(source, allowance) as file:
            root = file.groups[""]
            _refuse_code(file.attribute(root, "model_config") or "")
            keras_2 = "layer_names" in root.attrs or "model_weights" in file.groups
            groups = list(_keras_2(file, allowance) if keras_2 else _keras_3(file))
            family, named = _family(groups)
            notes = narrow_numbers(tensor for _, tensor in named)
            named = [(name, _googles_layout(name, tensor)) for name, tensor in named]
    if not family:
        layers = ", ".join(name for name, _ in groups[:4]) or "none"
        raise ValueError(
            f"{path} bears none of Google's names and is no BERT of transformers, bert4keras, "
            f"keras-bert or KerasHub: its layers are {layers:.200}; load it with "
            "its program and write it with bert_tf.checkpoints.save"
        )
    result: dict[str, np.ndarray] = {}
    for name, tensor in named:
        if name in result and not np.array_equal(result[name], tensor):
            raise ValueError(f"{path} holds {name} twice, with different numbers")
        result[name] = tensor
    return family, result, notes


def _refuse_code(config: object) -> None:
    text = config.decode(errors="replace") if isinstance(config, bytes) else str(config)
    if "Lambda" in re.findall(r'"class_name":\s*"(\w+)"', text):
        raise RefusedError(
            "it has a Lambda layer, which is program code; save the weights alone, with "
            "model.save_weights"
        )


def _archived(path: str, file_size: int) -> io.BytesIO:
    """The weights in a `.keras` archive, which is not compressed: no larger than the file."""
    with zipfile.ZipFile(path) as archive:
        entries = [archive.getinfo(name) for name in ("config.json", "model.weights.h5")]
        if sum(entry.file_size for entry in entries) > max(file_size, 1 << 20):
            raise ValueError("its parts are larger than itself")
        _refuse_code(archive.read(entries[0]))
        return io.BytesIO(archive.read(entries[1]))


def _keras_2(file: hdf5.Contents, allowance: Allowance) -> Iterator[Group]:
    root = "model_weights" if "model_weights" in file.groups else ""
    for layer in file.names(file.groups[root], "layer_names"):
        path = f"{root}/{layer}".lstrip("/")
        weights = file.names(file.groups[path], "weight_names")
        for name in (layer, *weights):
            allowance.take(0, name)
        yield layer, [(name, file.value(file.datasets[f"{path}/{name}"], name)) for name in weights]


def _keras_3(file: hdf5.Contents) -> Iterator[Group]:
    """Layers under the names their weights were given; KerasHub's encoder layers as `layer_3`."""
    for path, item in file.datasets.items():
        name = re.sub(r"^layers/|/vars(?=/\d+$)", "", path)
        if path.count("/") == 3:  # layers/NAME/vars/0
            given = file.attribute(file.groups[path.rpartition("/")[0]], "name")
            name = f"{given}/{name.rpartition('/')[2]}" if isinstance(given, str) else name
        number = re.match(r"transformer_encoder(?:_(\d+))?/", name)
        if number:
            name = f"layer_{number[1] or 0}/{name[number.end() :]}"
        yield name, [(name, file.value(item, name))]


def _family(groups: list[Group]) -> tuple[str, list[tuple[str, np.ndarray]]]:
    layers = {name for name, _ in groups}
    weights = [weight for _, group in groups for weight in group]
    kinds: dict[str, tuple[bool, Callable[[], Iterator[tuple[str, np.ndarray]]]]] = {
        "bert4keras": (
            any(name.startswith("Transformer-0-") for name in layers),
            lambda: _by_layer(groups, first=0),
        ),
        "keras-bert": (
            any(name.startswith("Encoder-1-") for name in layers),
            lambda: _by_layer(groups, first=1),
        ),
        "KerasHub": (
            {"token_embedding/0", "layer_0/_feedforward_layer_norm/0"} <= layers,
            lambda: ((_from_keras_hub(name) or name, x) for name, x in weights),
        ),
        "Hugging Face (tf_model.h5)": (
            any(re.search(r"/bert/embeddings/word_embeddings/weight", name) for name, _ in weights),
            lambda: _hugging_face(weights),
        ),
    }
    for family, (present, named) in kinds.items():
        if present:
            return family, list(named())
    return "", []


def _hugging_face(weights: list[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in weights:
        inside = re.sub(r"^.*?tf_bert\w*/", "", name.partition(":")[0])
        inside = re.sub(r"^(mlm|nsp)___cls", "cls", inside.replace("layer_._", "layer_"))
        yield _from_hugging_face(inside) or inside, tensor


def _by_layer(groups: list[Group], first: int) -> Iterator[tuple[str, np.ndarray]]:
    for layer, weights in groups:
        scopes = _scopes(layer, first)
        counts = {"kernel": 0, "bias": 0}
        for name, tensor in weights:
            part = _part(name, tensor)
            number = counts.setdefault(part, 0)
            counts[part] += 1
            yield _joined(scopes[number], part) if number < len(scopes) else name, tensor


def _scopes(layer: str, first: int) -> list[str]:
    """Google's scopes of what a layer of bert4keras or keras-bert holds; none if not BERT's."""
    for pattern, scopes in _LAYERS:
        if match := re.fullmatch(pattern, layer):
            number = str(int(match[1]) - first) if match.groups() else ""
            return [scope.replace("{i}", number) for scope in scopes]
    return []


def _part(name: str, tensor: np.ndarray) -> str:
    """kernel, bias, gamma or beta, whatever a library's name for them."""
    last = name.rpartition("/")[2].partition(":")[0]
    if last in ("gamma", "beta"):
        return last
    return "bias" if tensor.ndim == 1 else "kernel"


def _joined(scope: str, part: str) -> str:
    if scope.endswith("/output") and scope.startswith("cls/"):
        return f"{scope}_{'weights' if part == 'kernel' else 'bias'}"
    return scope if scope.endswith("_embeddings") else f"{scope}/{part}"


def _googles_layout(name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.kind == "f" or tensor.dtype == ml_dtypes.bfloat16:
        tensor = tensor.astype(np.float32, copy=False)
    if name.endswith("output_weights"):
        return np.ascontiguousarray(tensor.T)
    if name.endswith("/kernel") and tensor.ndim == 3:  # [N, H, E], [E, N, H]
        output = "/attention/output/" in name
        return tensor.reshape((-1, tensor.shape[2]) if output else (tensor.shape[0], -1))
    if name.endswith("/bias") and tensor.ndim == 2:  # [N, H]
        return tensor.reshape(-1)
    return tensor
