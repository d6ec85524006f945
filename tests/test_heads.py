"""The heads against outputs recorded from Google's code."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_modeling import INPUTS, close, load_golden, restore

import bert_tf
from bert_tf import crf, heads
from bert_tf.modeling import BertModel, checkpoint_name

MODELS = {
    "classifier": lambda config: heads.classifier(config, num_labels=3),
    "span": heads.span,
    "tagger": lambda config: heads.tagger(config, num_labels=3),
    "pretraining": heads.pretraining,
}
VARIABLES = {
    "classifier": ["output_weights", "output_bias"],
    "span": ["cls/squad/output_weights", "cls/squad/output_bias"],
    "tagger": ["output_weights", "output_bias"],
    "pretraining": [
        "cls/predictions/output_bias",
        "cls/predictions/transform/dense/kernel",
        "cls/predictions/transform/dense/bias",
        "cls/predictions/transform/LayerNorm/beta",
        "cls/predictions/transform/LayerNorm/gamma",
        "cls/seq_relationship/output_weights",
        "cls/seq_relationship/output_bias",
    ],
}


@pytest.fixture(scope="module", params=["gelu", "relu_types16"])
def golden(request):
    return load_golden(request.param)


def restored(head, golden):
    config, arrays, reader = golden
    model = MODELS[head](config)
    restore(model, reader)
    return model, {name: arrays[name] for name in model.input}


def test_classifier_logits(golden):
    model, inputs = restored("classifier", golden)
    close(model(inputs)["logits"], golden[1]["out/class_logits"])


def test_span_logits(golden):
    model, inputs = restored("span", golden)
    outputs = model(inputs)
    close(outputs["start_logits"], golden[1]["out/squad_start_logits"])
    close(outputs["end_logits"], golden[1]["out/squad_end_logits"])


def test_tagger_logits_are_the_classifiers_of_every_position(golden):
    model, inputs = restored("tagger", golden)
    outputs = model(inputs)
    sequence = model.bert(inputs)["sequence_output"]
    weights = {checkpoint_name(v): v.numpy() for v in model.variables}
    expected = sequence @ weights["output_weights"].T + weights["output_bias"]
    close(outputs["logits"], expected)


def test_tagger_with_crf(tmp_path):
    golden = load_golden("gelu")
    model = heads.tagger(golden[0], num_labels=3, use_crf=True)
    shapes = {checkpoint_name(v): tuple(v.shape) for v in model.variables}
    assert {name: shape for name, shape in shapes.items() if not name.startswith("bert/")} == {
        **{"output_weights": (3, golden[0].hidden_size), "output_bias": (3,)},
        "crf/transitions": (3, 3),
        "crf/start_transitions": (3,),
        "crf/end_transitions": (3,),
    }
    inputs = {name: golden[1][name] for name in model.input}
    assert not model(inputs)["transitions"].numpy().any()
    for number, variable in enumerate(model.get_layer("crf").variables):
        variable.assign(tf.random.stateless_normal(variable.shape, [number, 0]))
    expected = model(inputs)
    assert set(expected) == {"logits", *crf.NAMES}
    # Two batches: what is of no row is there once.
    for name, value in model.predict(inputs, batch_size=1, verbose=0).items():
        close(value, expected[name], atol=1e-6)
    model.save(tmp_path / "model.keras")
    for name, value in keras.models.load_model(tmp_path / "model.keras")(inputs).items():
        close(value, expected[name], atol=0)


def test_inputs_are_known_by_their_names():
    config, arrays, _ = load_golden("gelu")
    model = heads.classifier(config, 2)
    inputs = {name: arrays[name] for name in INPUTS}
    theirs = ("input_ids", "attention_mask", "token_type_ids")
    named = dict(zip(theirs, inputs.values(), strict=True))
    close(model(named)["logits"], model(inputs)["logits"], atol=0)
    close(model.predict(named, verbose=0)["logits"], model(inputs)["logits"], atol=1e-6)
    with pytest.raises(ValueError, match="the input 'label_ids' is not known; use input_ids"):
        model({**inputs, "label_ids": arrays["input_ids"]})


def test_importing_the_package_is_enough_to_load_a_model(tmp_path):
    config, arrays, _ = load_golden("gelu")
    model = heads.tagger(config, 3, use_crf=True)
    heads.pretraining(config).save(tmp_path / "pretraining.keras")
    model.save(tmp_path / "tagger.keras")
    inputs = {name: arrays[name] for name in INPUTS}
    np.savez(tmp_path / "inputs.npz", **inputs)
    code = f"""
import sys
import bert_tf
assert not {{"keras", "tensorflow", "numpy"}} & set(sys.modules)
import keras, numpy
keras.saving.load_model({str(tmp_path / "pretraining.keras")!r})
model = keras.saving.load_model({str(tmp_path / "tagger.keras")!r})
inputs = dict(numpy.load({str(tmp_path / "inputs.npz")!r}))
numpy.save({str(tmp_path / "logits.npy")!r}, model(inputs)["logits"])
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    close(np.load(tmp_path / "logits.npy"), model(inputs)["logits"], atol=1e-6)


def test_every_registered_name_is_known_before_its_module_is_imported():
    for path in Path(bert_tf.__file__).parent.glob("*.py"):
        importlib.import_module(f"bert_tf.{path.stem}".removesuffix(".__init__"))
    names = {n for n in keras.saving.get_custom_objects() if n.startswith("bert_tf>")}
    assert names == {f"bert_tf>{name}" for name in bert_tf._REGISTERED}
    for name, module in bert_tf._REGISTERED.items():
        own = getattr(importlib.import_module(f"bert_tf.{module}"), name)
        assert keras.saving.get_custom_objects()[f"bert_tf>{name}"] is own


def test_pretraining_losses(golden):
    _, arrays, _ = golden
    model, inputs = restored("pretraining", golden)
    outputs = tf.function(model)(inputs)

    words = tf.nn.log_softmax(outputs["masked_lm_logits"])  # [B, M, V]
    close(tf.reshape(words, [-1, words.shape[-1]]), arrays["out/masked_lm_log_probs"])
    losses = -tf.gather(words, arrays["masked_lm_ids"], batch_dims=2)
    close(tf.reshape(losses, [-1]), arrays["out/masked_lm_per_example"])
    weights = arrays["masked_lm_weights"]
    loss = tf.reduce_sum(losses * weights) / (tf.reduce_sum(weights) + 1e-5)
    close(loss, arrays["out/masked_lm_loss"])

    following = tf.nn.log_softmax(outputs["next_sentence_logits"])
    close(following, arrays["out/next_sentence_log_probs"])
    loss = -tf.reduce_mean(tf.gather(following, arrays["next_sentence_labels"], batch_dims=1))
    close(loss, arrays["out/next_sentence_loss"])


@pytest.mark.parametrize("head", MODELS)
def test_variables_have_googles_names_and_shapes(head):
    config, _, reader = load_golden("gelu")
    model = MODELS[head](config)
    shapes = {checkpoint_name(v): list(v.shape) for v in model.variables}
    expected = reader.get_variable_to_shape_map()
    assert shapes == {name: expected[name] for name in shapes}
    assert [name for name in shapes if not name.startswith("bert/")] == VARIABLES[head]
    encoder = {checkpoint_name(v) for v in model.bert.variables}
    assert encoder == {name for name in shapes if name.startswith("bert/")}
    assert ("bert/pooler/dense/kernel" in encoder) == (head not in ("span", "tagger"))


@pytest.mark.parametrize("head", MODELS)
def test_round_trips(head, tmp_path):
    golden = load_golden("gelu")
    model, inputs = restored(head, golden)
    expected = model(inputs)

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.bert, BertModel)
    assert [checkpoint_name(v) for v in again.variables] == [
        checkpoint_name(v) for v in model.variables
    ]
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = MODELS[head](golden[0])
    fresh.load_weights(tmp_path / "model.weights.h5")
    for reloaded in (again, fresh):
        for name, value in reloaded(inputs).items():
            close(value, expected[name], atol=0)


def test_bfloat16_logits_are_float32():
    golden = load_golden("gelu")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for head in MODELS:
            model, inputs = restored(head, golden)
            assert {x.dtype for x in model(inputs).values()} == {tf.float32}
            assert {v.dtype for v in model.variables} == {"float32"}
            if head == "classifier":
                close(model(inputs)["logits"], golden[1]["out/class_logits"], atol=0.05)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_scores_are_computed_in_float32(policy):
    layer = heads.Logits(1, 2, dtype=policy)
    layer.build()
    layer.output_weights.assign([[1.001, 0.5]])
    layer.output_bias.assign([4.3])
    x = tf.constant([[1.0, 0.25]], layer.compute_dtype)  # exact in bfloat16, the weights are not
    close(layer(x), [[1.001 + 0.125 + 4.3]], atol=1e-6)


def test_dropout_before_the_classifier_is_its_own():
    config, arrays, _ = load_golden("gelu")
    config = dataclasses.replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    inputs = {name: arrays[name] for name in INPUTS}

    def varies(**options):
        model = heads.classifier(config, 3, **options)
        first, second = (model(inputs, training=True)["logits"].numpy() for _ in range(2))
        return (first != second).any()

    assert varies()
    assert not varies(dropout_rate=0.0)


def test_every_word_learns_from_the_scores_it_gets():
    config, arrays, _ = load_golden("gelu")
    model = heads.pretraining(config)
    with tf.GradientTape() as tape:
        logits = model({name: arrays[name] for name in model.input})["masked_lm_logits"]
        loss = tf.reduce_sum(logits**2)
    gradient = tape.gradient(loss, model.bert.get_embedding_table())
    assert np.all(np.any(tf.convert_to_tensor(gradient), axis=1))
