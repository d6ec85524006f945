"""Other programs load what is written here: `-m slow`, and environments of their own.

BERT_TF_TRANSFORMERS names a Python that has transformers and torch (the extra `peers`),
BERT_TF_MODEL_GARDEN one with tf-models-official; a test whose variable is not set is skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bert_tf import checkpoints, heads
from bert_tf.checkpoints import loading
from bert_tf.config import BertConfig
from bert_tf.modeling import BertModel

pytestmark = pytest.mark.slow
FAMILIES = Path(__file__).parent / "golden" / "checkpoints" / "families"
SIZES = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 24,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
}
INPUTS = {
    "input_ids": np.array([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]], np.int32),
    "input_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
    "segment_ids": np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], np.int32),
}

TRANSFORMERS = """
import json, sys, numpy as np, torch, transformers
folder, name = sys.argv[1:]
model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
x = {k: torch.tensor(v.astype("int64")) for k, v in np.load(folder + "/inputs.npz").items()}
with torch.no_grad():
    out = model.eval()(input_ids=x["input_ids"], attention_mask=x["input_mask"],
                       token_type_ids=x["segment_ids"])
np.savez(folder + "/outputs.npz", **{k: v.numpy() for k, v in out.items() if v is not None})
print(json.dumps({k: sorted(map(str, v)) for k, v in info.items() if k.endswith("_keys")}))
"""

MODEL_GARDEN = """
import os, sys, types
os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.modules["tensorflow_datasets"] = types.ModuleType("not needed here")
import json, numpy as np, tensorflow as tf
from official.modeling import tf_utils
from official.nlp.modeling import models, networks
prefix, name, pretrainer = sys.argv[1:]
config = json.load(open(os.path.dirname(prefix) + "/bert_config.json"))
kind = getattr(networks, name)
inner = "intermediate_size" if name == "BertEncoder" else "inner_dim"
encoder = kind(vocab_size=config["vocab_size"], hidden_size=config["hidden_size"],
               num_layers=config["num_hidden_layers"], type_vocab_size=config["type_vocab_size"],
               num_attention_heads=config["num_attention_heads"],
               max_sequence_length=config["max_position_embeddings"],
               **{inner: config["intermediate_size"]})
x = np.load(os.path.dirname(prefix) + "/inputs.npz")
names = {"input_word_ids": "input_ids", "input_mask": "input_mask", "input_type_ids": "segment_ids"}
inputs = {theirs: tf.constant(x[ours]) for theirs, ours in names.items()}
model = encoder
if pretrainer == "yes":
    gelu = tf_utils.get_activation("gelu")
    model = models.BertPretrainerV2(encoder_network=encoder, mlm_activation=gelu)
    model(model.inputs)
    inputs["masked_lm_positions"] = tf.constant([list(range(5))] * 2)
model(inputs)
status = tf.train.Checkpoint(**{"model" if pretrainer == "yes" else "encoder": model}).read(prefix)
status.assert_existing_objects_matched()
out = model(inputs)
if not isinstance(out, dict):  # the older encoder's
    out = {"sequence_output": out[0], "pooled_output": out[1]}
outputs = {"sequence_output": out["sequence_output"], "pooled_output": out["pooled_output"]}
if pretrainer == "yes":
    outputs["mlm_logits"] = out["mlm_logits"]
np.savez(os.path.dirname(prefix) + "/outputs.npz", **{k: v.numpy() for k, v in outputs.items()})
"""


def run(variable, code, *arguments):
    if not (python := os.environ.get(variable)):
        pytest.skip(f"{variable} names no Python")
    command = [python, "-W", "ignore", "-c", code, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def randomized(model):
    generator = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(generator.normal(0.05, 0.4, weight.shape))
    return model


ACTIVATIONS = ("gelu", "gelu_erf", "relu", "silu")
HEADS = {
    "BertModel": None,
    "BertForPreTraining": heads.pretraining,
    "BertForQuestionAnswering": heads.span,
    "BertForSequenceClassification": lambda config: heads.classifier(config, 3),
    "BertForTokenClassification": lambda config: heads.tagger(config, 3),
    "ErnieModel": None,
}


_ENCODER = {"sequence_output": "last_hidden_state", "pooled_output": "pooler_output"}
PAIRS = {  # our outputs and theirs
    "BertModel": _ENCODER,
    "ErnieModel": _ENCODER,
    "BertForPreTraining": {
        "masked_lm_logits": "prediction_logits",
        "next_sentence_logits": "seq_relationship_logits",
    },
    "BertForQuestionAnswering": {"start_logits": "start_logits", "end_logits": "end_logits"},
    "BertForSequenceClassification": {"logits": "logits"},
    "BertForTokenClassification": {"logits": "logits"},
}
EVERY_POSITION = {"masked_lm_positions": np.array([range(5)] * 2, np.int32)}


def model_of(name, config):
    if HEADS[name]:
        return HEADS[name](config)
    model = BertModel(config)
    model.build()
    return model


@pytest.mark.parametrize("name", HEADS)
def test_transformers_loads_what_is_written(tmp_path, name):
    number = list(HEADS).index(name)
    config = BertConfig(
        **SIZES,
        hidden_act=ACTIVATIONS[number % 4],
        layer_norm_eps=(1e-12, 1e-5)[number % 2],
        task_type_vocab_size=3 if name == "ErnieModel" else 0,
    )
    model = randomized(model_of(name, config))
    checkpoints.save(model, tmp_path, "huggingface")
    np.savez(tmp_path / "inputs.npz", **INPUTS)
    keys = json.loads(run("BERT_TF_TRANSFORMERS", TRANSFORMERS, tmp_path, name))
    assert not any(keys.values()), keys
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [name]
    theirs = np.load(tmp_path / "outputs.npz")
    outputs = model(INPUTS if name != "BertForPreTraining" else INPUTS | EVERY_POSITION)
    assert len(PAIRS[name]) >= len(theirs.files)
    for ours, key in PAIRS[name].items():
        np.testing.assert_allclose(outputs[ours], theirs[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("encoder", ["BertEncoder", "BertEncoderV2"])
@pytest.mark.parametrize("pretrainer", ["no", "yes"])
def test_model_garden_loads_what_is_written(tmp_path, encoder, pretrainer):
    config = BertConfig(**SIZES)
    model = randomized(
        model_of("BertModel" if pretrainer == "no" else "BertForPreTraining", config)
    )
    weights = {n: x for n, x in loading.named_weights(model).items() if "seq_rel" not in n}
    np.savez(tmp_path / "inputs.npz", **INPUTS)
    prefix = checkpoints.save(weights, tmp_path, "model_garden", config=config)
    run("BERT_TF_MODEL_GARDEN", MODEL_GARDEN, prefix, encoder, pretrainer)
    theirs = np.load(tmp_path / "outputs.npz")
    outputs = (model if pretrainer == "no" else model.bert)(INPUTS)
    for name in ("sequence_output", "pooled_output"):
        np.testing.assert_allclose(outputs[name], theirs[name], atol=1e-5, rtol=1e-5)
    if pretrainer == "yes":
        logits = model(INPUTS | EVERY_POSITION)["masked_lm_logits"]
        np.testing.assert_allclose(logits, theirs["mlm_logits"], atol=1e-5, rtol=1e-5)
