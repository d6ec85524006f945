"""BertConfig: the architecture of a BERT, read from `bert_config.json` or `config.json`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from bert_tf import filesystem

# "gelu" is the tanh form (Google's), "gelu_erf" the form with the error function.
ACTIVATIONS = ("gelu", "gelu_erf", "linear", "relu", "silu", "tanh")

# What Hugging Face's and other people's configs call them. "gelu" is missing on purpose: its
# meaning depends on whose config it stands in.
_ACTIVATION_ALIASES = {
    "gelu_accurate": "gelu",
    "gelu_fast": "gelu",
    "gelu_new": "gelu",
    "gelu_python": "gelu_erf",
    "gelu_python_tanh": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "swish": "silu",
    "": "linear",
    None: "linear",
}
_HUGGING_FACE_KEYS = frozenset({"architectures", "model_type", "transformers_version"})
_PADDLE_KEYS = frozenset({"init_class", "init_args", "paddlenlp_version"})
_ERNIE_FILE = "ernie_config.json"
_PADDLE_LAYER_NORM_EPS = 1e-5  # where a config does not say, which Paddle's own do not
_HUGGING_FACE_TYPE_VOCAB_SIZE = 2  # the default of transformers.BertConfig; Google's is 16


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Google's `BertConfig` (google-research/bert, modeling.py) plus `layer_norm_eps`.

    Read one with `from_json_file` or `from_dict`; a Hugging Face `config.json` is recognised and
    translated. Keys that are not fields are kept in `extra` and written back by `to_dict`.

    Attributes:
      vocab_size: number of rows of the word embeddings.
      hidden_size: E, the width of the encoder.
      num_hidden_layers: number of Transformer layers.
      num_attention_heads: N; must divide `hidden_size`.
      intermediate_size: width of the feed-forward layer.
      hidden_act: one of `ACTIVATIONS`. "gelu" is the tanh form, which Hugging Face also calls
        gelu_new, gelu_fast, gelu_accurate, gelu_pytorch_tanh and gelu_python_tanh; "gelu_erf" the
        erf form, there gelu_python. quick_gelu and gelu_10 are other functions, and refused.
      hidden_dropout_prob: share dropped after embeddings and after each dense layer.
      attention_probs_dropout_prob: share of the attention probabilities dropped.
      max_position_embeddings: the longest sequence.
      type_vocab_size: number of segment types.
      initializer_range: standard deviation of the truncated normal initializer.
      layer_norm_eps: added to the variance in every LayerNorm.
      task_type_vocab_size: number of task types, ERNIE's; 0 for models without, which is BERT.

    Raises:
      ValueError: on an impossible combination of sizes or an unknown activation.
    """

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 16
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    task_type_vocab_size: int = 0
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        given = self.hidden_act
        alias = given.lower() if isinstance(given, str) else given
        if alias is None or isinstance(alias, str):
            object.__setattr__(self, "hidden_act", _ACTIVATION_ALIASES.get(alias, alias))
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"hidden_act={given!r:.80} is not an activation known here; "
                f"use one of {', '.join(ACTIVATIONS)}"
            )
        for name, largest in _LARGEST.items():
            value, least = getattr(self, name), int(name != "task_type_vocab_size")
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                kind = "a positive whole number" if least else "a whole number"
                raise ValueError(f"{name}={value!r:.80} must be {kind}")
            if value > largest:
                raise ValueError(f"{name}={value!r:.80} is larger than any BERT's, {largest}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of "
                f"num_attention_heads={self.num_attention_heads}"
            )
        for name in _SHARES:
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
                raise ValueError(f"{name}={value!r:.80} must be in [0, 1)")
        value = self.initializer_range
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e6:
            raise ValueError(f"initializer_range={value!r:.80} must be a number, 0 or more")

    @classmethod
    def from_dict(cls, json_object: Mapping[str, Any]) -> BertConfig:
        """A config from Google's or Hugging Face's keys; the latter's "gelu" is the erf form."""
        if not isinstance(json_object, Mapping):
            raise ValueError(f"a BERT config is a JSON object, not a {type(json_object).__name__}")
        values = _translated(json_object)
        if "vocab_size" not in values:
            keys = ", ".join(sorted(values))
            raise ValueError(f"a BERT config needs vocab_size; the keys found are {keys:.400}")
        if values.get("is_decoder"):
            raise ValueError(
                f"is_decoder={values['is_decoder']!r:.20} is not supported: a decoder's positions "
                "see only those before them; give an encoder"
            )
        if _HUGGING_FACE_KEYS & values.keys():
            values = _from_hugging_face(values)
        if not values.pop("use_task_id", False):
            values.pop("task_type_vocab_size", None)
        known = {name: values.pop(name) for name in _FIELDS if name in values}
        return cls(**known, extra=values)

    @classmethod
    def from_json_file(cls, json_file: filesystem.StrPath, of_paddle: bool = False) -> BertConfig:
        """The config in `json_file`; errors name the file.

        Args:
          json_file: bert_config.json, config.json, ...
          of_paddle: whether it describes weights of PaddlePaddle's: then "gelu" is the erf form,
            and what is not said is as there.
        """
        values = filesystem.read_json(json_file, dict)
        try:
            if of_paddle or os.path.basename(json_file) == _ERNIE_FILE:
                values = _from_paddle(_translated(values))
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{json_file}: {error}") from error

    @property
    def num_matrix_parameters(self) -> int:
        """Return how many numbers the embeddings and the layers' kernels have."""
        rows = (
            self.vocab_size
            + self.max_position_embeddings
            + self.type_vocab_size
            + self.task_type_vocab_size
        )
        layer = 4 * self.hidden_size + 2 * self.intermediate_size
        return self.hidden_size * (rows + self.num_hidden_layers * layer)

    def to_dict(self) -> dict[str, Any]:
        """Google's keys, and those kept in `extra`. `layer_norm_eps` only where not 1e-12."""
        values = {**self.extra, **{name: getattr(self, name) for name in _FIELDS}}
        if self.layer_norm_eps == BertConfig.layer_norm_eps:
            del values["layer_norm_eps"]
        if self.task_type_vocab_size:
            values["use_task_id"] = True
        else:
            del values["task_type_vocab_size"]
        return values

    def to_json_string(self) -> str:
        """`to_dict` as JSON: two blanks of indent, sorted keys, a newline at the end."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_hf_dict(self) -> dict[str, Any]:
        """The same model as Hugging Face's `config.json` describes it."""
        activation = {"gelu": "gelu_new", "gelu_erf": "gelu"}.get(self.hidden_act, self.hidden_act)
        ernie = self.task_type_vocab_size > 0
        return {
            **self.to_dict(),
            "architectures": ["ErnieModel" if ernie else "BertModel"],
            "hidden_act": activation,
            "layer_norm_eps": self.layer_norm_eps,
            "model_type": "ernie" if ernie else "bert",
        }


def _from_hugging_face(values: dict[str, Any]) -> dict[str, Any]:
    """Google's meaning of a Hugging Face config; without the keys that say whose it is."""
    for key, known in (
        ("model_type", ("bert", "ernie")),
        ("position_embedding_type", ("absolute",)),
    ):
        if values.get(key, known[0]) not in known:
            raise ValueError(
                f"{key}={values[key]!r:.80} is not supported; only {' and '.join(known)} is"
            )
    if values.setdefault("hidden_act", "gelu") == "gelu":
        values["hidden_act"] = "gelu_erf"
    values.setdefault("type_vocab_size", _HUGGING_FACE_TYPE_VOCAB_SIZE)
    return {key: value for key, value in values.items() if key not in _HUGGING_FACE_KEYS}


# KerasHub's words for what Google's config says.
_KERAS_HUB = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}


def _translated(json_object: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config of KerasHub or PaddleNLP as Google's; those of any other as they are."""
    values = dict(json_object)
    if values.get("class_name") == "BertBackbone" and isinstance(values.get("config"), Mapping):
        theirs = values["config"]
        values = {ours: theirs[name] for name, ours in _KERAS_HUB.items() if name in theirs}
        dropout = theirs.get("dropout", BertConfig.hidden_dropout_prob)
        return values | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    paddle = (_PADDLE_KEYS | {"sent_type_vocab_size"}) & values.keys()
    while isinstance(values.get("init_args"), list) and values["init_args"]:
        if not isinstance(values["init_args"][0], Mapping):
            break
        values = dict(values["init_args"][0])  # a head's arguments; the first is the encoder's
    return _from_paddle(values) if paddle else values


def _from_paddle(values: dict[str, Any]) -> dict[str, Any]:
    """A config of ERNIE's own releases or of PaddleNLP: LayerNorm's epsilon is Paddle's."""
    if values.get("hidden_act") == "gelu":
        values["hidden_act"] = "gelu_erf"
    if "sent_type_vocab_size" in values:  # ERNIE 2.0
        values["type_vocab_size"] = values.pop("sent_type_vocab_size")
    values.setdefault("layer_norm_eps", _PADDLE_LAYER_NORM_EPS)
    values.setdefault("type_vocab_size", _HUGGING_FACE_TYPE_VOCAB_SIZE)
    width = values.get("hidden_size", BertConfig.hidden_size)
    if isinstance(width, int):  # what else it is, the config refuses
        values.setdefault("intermediate_size", 4 * width)
    dropped = _PADDLE_KEYS | _HUGGING_FACE_KEYS
    return {key: value for key, value in values.items() if key not in dropped}


_FIELDS = tuple(field.name for field in dataclasses.fields(BertConfig) if field.name != "extra")
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps")
# Sizes, and what is beyond any model: a config is read before its weights are.
_LARGEST = {
    "vocab_size": 100_000_000,
    "hidden_size": 100_000,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 100_000,
    "intermediate_size": 1_000_000,
    "max_position_embeddings": 10_000_000,
    "type_vocab_size": 1_000_000,
    "task_type_vocab_size": 1_000_000,
}
