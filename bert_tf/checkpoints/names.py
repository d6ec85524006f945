"""What variables are called: Google's names, Hugging Face's names, and the table between them.

Inside of bert_tf a weight always bears the name it has in Google's released checkpoints. The
table below is the only place that knows the other names, and it is read in both directions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

_LAYER = "bert/encoder/layer_{i}"
_DENSE = (
    f"{_LAYER}/attention/self/query",
    f"{_LAYER}/attention/self/key",
    f"{_LAYER}/attention/self/value",
    f"{_LAYER}/attention/output/dense",
    f"{_LAYER}/intermediate/dense",
    f"{_LAYER}/output/dense",
    "bert/pooler/dense",
    "cls/predictions/transform/dense",
)
_NORM = (
    "bert/embeddings/LayerNorm",
    f"{_LAYER}/attention/output/LayerNorm",
    f"{_LAYER}/output/LayerNorm",
    "cls/predictions/transform/LayerNorm",
)


def _dotted(scope: str) -> str:
    return scope.replace("layer_", "layer.").replace("/", ".")


# (Google, Hugging Face). A `kernel` is [in, out] at Google and [out, in] at Hugging Face;
# everything else has one shape.
RENAMES: tuple[tuple[str, str], ...] = (
    ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
    ("bert/embeddings/position_embeddings", "bert.embeddings.position_embeddings.weight"),
    ("bert/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings.weight"),
    ("bert/embeddings/task_type_embeddings", "bert.embeddings.task_type_embeddings.weight"),
    *((f"{scope}/kernel", f"{_dotted(scope)}.weight") for scope in _DENSE),
    *((f"{scope}/bias", f"{_dotted(scope)}.bias") for scope in _DENSE),
    *((f"{scope}/gamma", f"{_dotted(scope)}.weight") for scope in _NORM),
    *((f"{scope}/beta", f"{_dotted(scope)}.bias") for scope in _NORM),
    ("cls/predictions/output_bias", "cls.predictions.bias"),
    ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
    ("cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
    ("cls/squad/output_weights", "qa_outputs.weight"),
    ("cls/squad/output_bias", "qa_outputs.bias"),
    ("output_weights", "classifier.weight"),
    ("output_bias", "classifier.bias"),
)

# Entries of Hugging Face files that are no weights of their own: counters 0, 1, 2, ... and zeros.
_BUFFERS = frozenset({"bert.embeddings.position_ids", "bert.embeddings.token_type_ids"})
# The masked-LM output layer, tied to what is named beside it; old files hold it a second time.
DECODER = "cls.predictions.decoder.weight"
_TIED = {
    DECODER: "bert/embeddings/word_embeddings",
    "cls.predictions.decoder.bias": "cls/predictions/output_bias",
}

# In front of all names where DataParallel or torch.compile wrapped the model that was saved.
WRAPPER = re.compile(r"^((module|_orig_mod)\.)+")

WORDS = "bert/embeddings/word_embeddings"
_OPTIMIZER_STATE = re.compile(
    r"/(adam|lamb)_[mv]$|/(Adam|Lamb|LAMB)\w*$|(^|/)(beta[12]_power|global_step)$"
    r"|^loss_scale(_good_steps)?$"
)
_ENCODER = ("bert/embeddings/", "bert/encoder/")


def is_optimizer_state(name: str) -> bool:
    """True for Adam's and LAMB's slots and `global_step`, under any scope: no part of the model."""
    return _OPTIMIZER_STATE.search(name) is not None


def is_encoder(name: str) -> bool:
    """True for the embeddings and the layers; the pooler is not needed by every task."""
    return name.startswith(_ENCODER)


def sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """What the weights themselves say of the architecture, under the names of `BertConfig`."""
    found: dict[str, int] = {}
    tables = {
        "vocab_size": WORDS,
        "max_position_embeddings": "bert/embeddings/position_embeddings",
        "type_vocab_size": "bert/embeddings/token_type_embeddings",
        "task_type_vocab_size": "bert/embeddings/task_type_embeddings",
    }
    for key, name in tables.items():
        if name in shapes:
            found[key] = shapes[name][0]
    if WORDS in shapes:
        found["hidden_size"] = shapes[WORDS][1]
    inner = "bert/encoder/layer_0/intermediate/dense/kernel"
    if inner in shapes:
        found["intermediate_size"] = shapes[inner][1]
    layers = {m[1] for name in shapes if (m := re.match(r"bert/encoder/layer_(\d+)/", name))}
    if layers:
        found["num_hidden_layers"] = len(layers)
    return found


FLOATS = ("float16", "bfloat16", "float64")  # what is read as float32


def narrow_numbers(tensors: Iterable[np.ndarray]) -> tuple[str, ...]:
    """Return a note for each kind of number that is read as float32."""
    kinds = Counter(tensor.dtype.name for tensor in tensors if tensor.dtype.name in FLOATS)
    return tuple(f"{count} tensors are {kind}, read as float32" for kind, count in kinds.items())


class Renamer:
    """One direction of the table; `{i}` stands for a layer's number on both sides."""

    def __init__(self, pairs: Iterable[tuple[str, str]]):
        pairs = tuple(pairs)
        self._exact = {source: target for source, target in pairs if "{i}" not in source}
        self._layered = {source: target for source, target in pairs if "{i}" in source}

    def __call__(self, name: str) -> str | None:
        if name in self._exact:
            return self._exact[name]
        number = re.search(r"layers?[._](\d+)", name)
        if number is None:
            return None
        template = name[: number.start(1)] + "{i}" + name[number.end(1) :]
        target = self._layered.get(template)
        return target and target.replace("{i}", number[1])


to_hugging_face = Renamer(RENAMES)
_from_hugging_face = Renamer((theirs, ours) for ours, theirs in RENAMES)


def _modern(name: str) -> str:
    """A Hugging Face name as it is written today: `bert.` in front, LayerNorm.weight/.bias.

    `ernie.` counts as `bert.`: the model is the same. What PyTorch's wrappers put in front is no
    part of it.
    """
    name = re.sub(r"^ernie\.", "bert.", WRAPPER.sub("", name))
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = f"bert.{name}"
    return re.sub(
        r"LayerNorm\.(gamma|beta)$",
        lambda old: "LayerNorm." + {"gamma": "weight", "beta": "bias"}[old[1]],
        name,
    )


def from_hugging_face(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face's names and layouts -> Google's.

    Left out, because they carry nothing: position and segment counters, and the masked-LM output
    layer where it equals what it is tied to. A name that is not BERT's is kept as it is.

    Raises:
      ValueError: two entries are the same weight, or a weight is no floating point number.
    """
    result: dict[str, np.ndarray] = {}
    rest = {}
    for name, tensor in tensors.items():
        modern = _modern(name)
        ours = _from_hugging_face(modern)
        if ours is None:
            if modern not in _BUFFERS:
                rest[modern] = tensor
        elif ours in result:
            raise ValueError(f"{name} is there twice, with and without `bert.` in front")
        elif tensor.dtype != np.float32:
            raise ValueError(
                f"{name} holds {tensor.dtype} numbers (a quantized model?); "
                "give a checkpoint in floating point"
            )
        else:
            # A view: whoever copies it into a variable, or writes it, turns it on the way.
            result[ours] = tensor.T if ours.endswith("/kernel") else tensor
    for name, tensor in rest.items():
        tied = _TIED.get(name, name)
        if tied not in result:
            result[tied] = tensor
        elif not np.array_equal(result[tied], tensor):
            result[name] = tensor  # trained apart: something this model does not have
    return result


def to_hugging_face_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Google's names and layouts -> Hugging Face's, without the optimizer's state.

    As in Hugging Face's own files, `bert.` stands in front only where there is a head beside the
    encoder. A name that is not BERT's is kept as it is.
    """
    model = {name: x for name, x in tensors.items() if not is_optimizer_state(name)}
    bare = all(name.startswith("bert/") for name in model)
    scope = "ernie." if "bert/embeddings/task_type_embeddings" in model else "bert."
    result = {}
    for name, tensor in model.items():
        theirs = to_hugging_face(name) or name
        theirs = re.sub(r"^bert\.", "" if bare else scope, theirs)
        result[theirs] = np.ascontiguousarray(tensor.T if name.endswith("/kernel") else tensor)
    return result
