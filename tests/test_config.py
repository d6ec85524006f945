"""BertConfig: both dialects, round trips and errors."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tf.config import ACTIVATIONS, BertConfig

GOLDEN = Path(__file__).parent / "golden" / "modeling"

# What google-research/bert's `BertConfig(vocab_size=100).to_json_string()` returns.
GOOGLES_DEFAULTS = """{
  "attention_probs_dropout_prob": 0.1,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 768,
  "initializer_range": 0.02,
  "intermediate_size": 3072,
  "max_position_embeddings": 512,
  "num_attention_heads": 12,
  "num_hidden_layers": 12,
  "type_vocab_size": 16,
  "vocab_size": 100
}
"""


def test_defaults_are_googles():
    assert BertConfig(100).to_json_string() == GOOGLES_DEFAULTS
    assert BertConfig.from_dict({"vocab_size": 100}) == BertConfig(100)
    assert BertConfig(100).layer_norm_eps == 1e-12


@pytest.mark.parametrize("name", ["gelu", "relu_types16"])
def test_google_file_round_trips(name):
    config = BertConfig.from_json_file(GOLDEN / name / "bert_config.json")
    assert config.to_dict() == json.loads((GOLDEN / name / "bert_config.json").read_text())
    assert BertConfig.from_dict(json.loads(config.to_json_string())) == config


def test_unknown_keys_are_kept():
    values = {"vocab_size": 9, "pooler_type": "first_token_transform", "directionality": "bidi"}
    assert BertConfig.from_dict(values).to_dict().items() >= values.items()


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text(), max_size=4))
def test_any_extra_key_round_trips(extra):
    reserved = {*BertConfig(1).to_dict(), "layer_norm_eps", "extra"}
    dialect = {"architectures", "model_type", "transformers_version"}
    extra = {k: v for k, v in extra.items() if k not in reserved | dialect}
    config = BertConfig.from_dict({"vocab_size": 9, **extra})
    assert BertConfig.from_dict(json.loads(config.to_json_string())) == config


@pytest.mark.parametrize(
    ("dialect", "given_name", "meaning"),
    [
        ({}, "gelu", "gelu"),
        ({}, "GELU", "gelu"),
        ({}, "swish", "silu"),
        ({}, None, "linear"),
        ({"model_type": "bert"}, "gelu", "gelu_erf"),
        ({"architectures": ["BertModel"]}, "gelu_new", "gelu"),
        ({"transformers_version": "4.8"}, "gelu_pytorch_tanh", "gelu"),
        ({"model_type": "bert"}, "relu", "relu"),
        ({"model_type": "bert"}, "gelu_python", "gelu_erf"),
        ({}, "gelu_python", "gelu_erf"),
        ({"model_type": "bert"}, "gelu_fast", "gelu"),
        ({"model_type": "bert"}, "gelu_accurate", "gelu"),
        ({"model_type": "bert"}, "gelu_python_tanh", "gelu"),
    ],
)
def test_activation_means_what_its_dialect_says(dialect, given_name, meaning):
    config = BertConfig.from_dict({"vocab_size": 9, "hidden_act": given_name, **dialect})
    assert config.hidden_act == meaning


def test_hugging_face_config():
    values = {"vocab_size": 30522, "model_type": "bert", "hidden_size": 384, "layer_norm_eps": 1e-5}
    config = BertConfig.from_dict(values)
    assert (config.type_vocab_size, config.hidden_act) == (2, "gelu_erf")
    assert config.layer_norm_eps == 1e-5
    assert config.to_dict()["layer_norm_eps"] == 1e-5
    assert "model_type" not in config.to_dict()
    assert BertConfig.from_dict(config.to_hf_dict()) == config


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_to_hf_dict_and_back(activation):
    config = BertConfig(9, hidden_act=activation)
    assert BertConfig.from_dict(config.to_hf_dict()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 10, "num_attention_heads": 3}, "hidden_size=10 is not a multiple of"),
        ({"hidden_act": "gleu"}, "hidden_act='gleu'.*gelu, gelu_erf, linear, relu, silu, tanh"),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu' is not an activation known here"),
        ({"is_decoder": True}, "is_decoder=True is not supported: .*give an encoder"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be a positive whole number"),
        ({"hidden_size": "768"}, "hidden_size='768' must be a positive whole number"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob=1.0 must be in \[0, 1\)"),
        ({"hidden_dropout_prob": None}, r"hidden_dropout_prob=None must be in \[0, 1\)"),
        (
            {"model_type": "roberta"},
            "model_type='roberta' is not supported; only bert and ernie is",
        ),
        (
            {"model_type": "bert", "position_embedding_type": "relative_key"},
            "position_embedding_type='relative_key' is not supported",
        ),
    ],
)
def test_impossible_values(values, message):
    with pytest.raises(ValueError, match=message):
        BertConfig.from_dict({"vocab_size": 9, **values})


HOSTILE = [
    "{",
    "[]",
    '{"hidden_size": 8}',
    '{"vocab_size": -1}',
    "[" * 200_000,
    '{"vocab_size": 9, "x": ' + "[" * 900 + "]" * 900 + "}",
    '{"vocab_size": ' + "9" * 5000 + "}",
    '{"vocab_size": ' + "9" * 4000 + "}",
    '{"vocab_size": 9, "num_hidden_layers": 1000000000}',
    '{"vocab_size": 9, "layer_norm_eps": NaN}',
    '{"vocab_size": 9, "layer_norm_eps": "1e-12"}',
    '{"vocab_size": 9, "initializer_range": Infinity}',
    '{"vocab_size": 9, "hidden_act": ["gelu"]}',
    '{"vocab_size": 9, "model_type": ["bert"]}',
    '{"vocab_size": 9, "init_class": 1, "hidden_size": {}}',
    '{"class_name": "BertBackbone", "config": {"vocabulary_size": [1], "dropout": {}}}',
    '{"init_args": [{"init_args": []}], "vocab_size": null}',
    "\u00ff",
]


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: content[:60])
def test_errors_name_the_file(tmp_path, content):
    path = tmp_path / "bert_config.json"
    path.write_bytes(content.encode("latin1"))
    with pytest.raises(ValueError, match="bert_config.json(: | is not valid JSON| holds no JSON)"):
        BertConfig.from_json_file(path)
