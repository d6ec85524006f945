"""Reading, loading and writing checkpoints of every format."""

import json
import shutil
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from bert_tf import checkpoints, heads, modeling
from bert_tf.checkpoints import google, huggingface, names
from bert_tf.checkpoints.convert import convert
from bert_tf.checkpoints.loading import named_weights
from bert_tf.config import BertConfig
from bert_tf.fill_mask import MaskFiller

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
KERAS_BERT = GOLDEN / "keras_bert_test"
CHINESE = GOLDEN / "google_chinese"
TORCH = GOLDEN / "torch"
CONFIG = BertConfig.from_json_file(KERAS_BERT / "bert_config.json")


def assert_same(ours, expected):
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
        assert ours[name].dtype == tensor.dtype, name


def torch_weights():
    return huggingface.read(str(TORCH / "model.safetensors"))


# ---------------------------------------------------------------------------- Google's format


def test_reads_a_checkpoint_of_run_pretraining():
    tensors = checkpoints.read(KERAS_BERT)
    assert len(tensors) == 139 and tensors["global_step"] == 20
    assert checkpoints.global_step(KERAS_BERT) == 20
    kernel = tensors["bert/encoder/layer_1/intermediate/dense/kernel"]
    assert kernel.shape == (4, 16) and kernel.dtype == np.float32
    reader = tf.train.load_checkpoint(str(KERAS_BERT / "bert_model.ckpt"))
    assert_same(tensors, {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()})


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_a_prefix_or_one_of_its_files_will_do(ending):
    path = f"{KERAS_BERT}/bert_model.ckpt{ending}"
    weights = checkpoints.read(path, optimizer_state=False)
    assert len(weights) == 46 and "global_step" not in weights


def test_writes_what_tensorflow_1_writes_to_the_byte(tmp_path):
    values = checkpoints.read(KERAS_BERT)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(n, initializer=x) for n, x in values.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables)
        saver.save(session, str(tmp_path / "theirs.ckpt"), write_meta_graph=False)
    google.write(str(tmp_path / "ours.ckpt"), values)
    for ending in (".index", ".data-00000-of-00001"):
        theirs = (tmp_path / f"theirs.ckpt{ending}").read_bytes()
        assert (tmp_path / f"ours.ckpt{ending}").read_bytes() == theirs


def test_names_and_shapes_are_those_of_googles_release(monkeypatch):
    # Zeros: a hundred million random numbers take seconds and play no part here.
    zeros = keras.initializers.Zeros.__call__
    monkeypatch.setattr(keras.initializers.TruncatedNormal, "__call__", zeros)
    model = heads.Pretraining(BertConfig.from_json_file(CHINESE / "bert_config.json"))
    ours = {name: list(weight.shape) for name, weight in named_weights(model).items()}
    theirs = dict(tf.train.list_variables(str(CHINESE / "bert_model.ckpt")))
    assert len(theirs) == 206
    assert ours == theirs


def test_variables_and_keras_variables_are_written_too(tmp_path):
    model = heads.classifier(CONFIG, 3)
    variables = named_weights(model) | {"global_step": tf.Variable(7, dtype=tf.int64)}
    google.write(str(tmp_path / "model.ckpt-7"), variables)
    ours = google.read(str(tmp_path / "model.ckpt-7"))
    assert_same(ours, {name: np.asarray(x) for name, x in variables.items()})
    assert ours["output_weights"].shape == (3, 4) and ours["global_step"].dtype == np.int64


def test_object_based_checkpoints_are_refused(tmp_path):
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "model.ckpt"))
    with pytest.raises(ValueError, match=r"model.ckpt was written by tf.train.Checkpoint"):
        checkpoints.read(tmp_path / "model.ckpt")


# ----------------------------------------------------------------------------- Hugging Face


@pytest.mark.parametrize("file", ["model.safetensors", "zip.bin", "legacy.bin"])
def test_hugging_face_files_become_googles(file):
    tensors = checkpoints.read(TORCH / file)
    assert len(tensors) == 30 and {x.dtype for x in tensors.values()} == {np.dtype("f4")}
    counted = np.arange(32, dtype=np.float32).reshape(8, 4)
    np.testing.assert_array_equal(
        tensors["bert/encoder/layer_0/intermediate/dense/kernel"], counted.T + 1300
    )
    np.testing.assert_array_equal(
        tensors["bert/encoder/layer_0/attention/self/query/kernel"], counted[:4].T + 500
    )
    np.testing.assert_array_equal(tensors["bert/embeddings/LayerNorm/gamma"], np.arange(300, 304))
    np.testing.assert_array_equal(tensors["cls/predictions/output_bias"], np.arange(2300, 2306))
    np.testing.assert_array_equal(tensors["cls/seq_relationship/output_bias"], [1.5, -2])
    np.testing.assert_array_equal(
        tensors["bert/encoder/layer_0/attention/self/value/bias"], np.arange(1000, 1004)
    )
    assert_same(tensors, torch_weights())


def test_every_name_of_the_table_goes_both_ways():
    ours = [ours.replace("{i}", "11") for ours, _ in names.RENAMES]
    theirs = [theirs.replace("{i}", "11") for _, theirs in names.RENAMES]
    assert [names.to_hugging_face(name) for name in ours] == theirs
    tensors = {name: np.ones([2, 3], np.float32) for name in theirs}
    assert names.from_hugging_face(tensors).keys() == set(ours)
    assert len(set(theirs)) == len(theirs)


def test_names_without_bert_in_front():
    bare = {name.removeprefix("bert."): x for name, x in safetensors_of(torch_weights()).items()}
    assert_same(names.from_hugging_face(bare), torch_weights())


def test_what_wrappers_put_in_front_of_names_is_left_out(tmp_path):
    for front in ("module.", "module._orig_mod."):
        wrapped = {f"{front}{name}": x for name, x in safetensors_of(torch_weights()).items()}
        path = tmp_path / "model.safetensors"
        safetensors.numpy.save_file(wrapped, path)
        found = checkpoints.contents(path)
        assert_same(found.tensors, torch_weights())
        assert found.notes == (
            f"`module.` or `_orig_mod.` in front of {len(wrapped)} names left out",
        )


def safetensors_of(tensors):
    return names.to_hugging_face_tensors(tensors)


def test_an_output_layer_trained_apart_is_not_dropped_silently():
    tensors = safetensors_of(torch_weights())
    tensors["cls.predictions.decoder.weight"] = np.zeros([6, 4], np.float32)
    assert "cls.predictions.decoder.weight" in names.from_hugging_face(tensors)
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    assert "cls/predictions/output_bias" in names.from_hugging_face(tensors)


@pytest.mark.parametrize("apart", [False, True])
def test_a_conversion_says_what_words_are_scored_by(tmp_path, apart):
    """tie_word_embeddings: false makes transformers look for a decoder, and draw it at random."""
    tensors = safetensors_of(checkpoints.read(KERAS_BERT, optimizer_state=False))
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tensors[names.DECODER] = words + apart
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    config = CONFIG.to_hf_dict() | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("model.safetensors", "bert_model.ckpt"):
        convert(str(tmp_path), str(tmp_path / "via" / name))
        convert(str(tmp_path / "via" / name), str(tmp_path / "end"), "huggingface")
        written = safetensors.numpy.load_file(tmp_path / "end" / "model.safetensors")
        config = json.loads((tmp_path / "end" / "config.json").read_text())
        assert (names.DECODER in written) is apart
        assert config.get("tie_word_embeddings", True) is not apart
    if apart:
        np.testing.assert_array_equal(written[names.DECODER], words + 1)
        shutil.copy(KERAS_BERT / "vocab.txt", tmp_path)
        with pytest.raises(ValueError, match="scores words by cls.predictions.decoder.weight"):
            MaskFiller.from_pretrained(tmp_path)


def test_heads_have_their_places():
    table = {
        "classifier.weight": "output_weights",
        "classifier.bias": "output_bias",
        "qa_outputs.weight": "cls/squad/output_weights",
        "qa_outputs.bias": "cls/squad/output_bias",
    }
    tensors = {theirs: np.ones(2, np.float32) for theirs in table}
    assert names.from_hugging_face(tensors).keys() == set(table.values())


def test_ambiguous_and_quantized_files_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    one = np.ones([2, 2], np.float32)
    safetensors.numpy.save_file({"pooler.dense.bias": one, "bert.pooler.dense.bias": one}, path)
    with pytest.raises(ValueError, match=r"model.safetensors: .*is there twice"):
        checkpoints.read(path)
    safetensors.numpy.save_file({"pooler.dense.bias": np.ones(2, np.int8)}, path)
    with pytest.raises(ValueError, match=r"holds int8 numbers \(a quantized model\?\)"):
        checkpoints.read(path)


def test_half_precision_becomes_float32(tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        path = tmp_path / "model.safetensors"
        safetensors.numpy.save_file({"pooler.dense.bias": np.array([1.5, -3], dtype)}, path)
        assert_same(
            checkpoints.read(path), {"bert/pooler/dense/bias": np.array([1.5, -3], np.float32)}
        )


def write_shards(folder, shard_names=("model-1.safetensors", "model-2.safetensors")):
    tensors = sorted(safetensors_of(torch_weights()).items())
    weight_map = {}
    for number, shard in enumerate(shard_names):
        part = dict(tensors[number::2])
        weight_map |= dict.fromkeys(part, shard)
        safetensors.numpy.save_file(part, folder / f"model-{number + 1}.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_shards(tmp_path):
    index = write_shards(tmp_path)
    assert_same(checkpoints.read(tmp_path), torch_weights())
    assert_same(checkpoints.read(index), torch_weights())


@pytest.mark.parametrize("shard", ["../model-2.safetensors", "/etc/passwd", "a\\..\\b", "..", 5])
def test_shards_may_not_leave_their_folder(tmp_path, shard):
    index = write_shards(tmp_path, (shard, shard))
    with pytest.raises(ValueError, match=r"index.json names the file .* outside of its own folder"):
        checkpoints.read(index)


def test_a_hugging_face_folder_is_complete(tmp_path):
    weights = torch_weights() | {"output_weights": np.ones([3, 4], "f"), "output_bias": np.ones(3)}
    weights["output_bias"] = weights["output_bias"].astype("f")
    vocab_file = str(KERAS_BERT / "vocab.txt")
    path = checkpoints.save(
        weights, tmp_path, "huggingface", config=CONFIG, vocab_file=vocab_file, do_lower_case=False
    )
    assert path == str(tmp_path / "model.safetensors")
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert "bert.encoder.layer.0.output.LayerNorm.weight" in file.keys()  # noqa: SIM118
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bert" and config["hidden_act"] == "gelu_new"
    assert config["architectures"] == ["BertForPreTraining"]
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert BertConfig.from_json_file(tmp_path / "config.json").hidden_act == CONFIG.hidden_act
    place = checkpoints.locate(tmp_path)
    assert place.vocab_file == str(tmp_path / "vocab.txt") and place.do_lower_case is False
    assert_same(checkpoints.read(tmp_path), weights)


def test_a_next_sentence_head_alone_has_its_class(tmp_path):
    weights = {n: x for n, x in torch_weights().items() if "cls/predictions" not in n}
    checkpoints.save(weights, tmp_path, "huggingface", config=CONFIG)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForNextSentencePrediction"]


def test_an_encoder_alone_has_hugging_faces_bare_names(tmp_path):
    encoder = {n: x for n, x in torch_weights().items() if n.startswith("bert/")}
    path = checkpoints.save(encoder, tmp_path / "encoder.safetensors", "huggingface", config=CONFIG)
    with safetensors.safe_open(path, "numpy") as file:
        assert "pooler.dense.weight" in file.keys()  # noqa: SIM118
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    assert_same(checkpoints.read(path), encoder)


@pytest.mark.parametrize(
    ("add_pooler", "architecture"),
    [(True, "BertForSequenceClassification"), (False, "BertForTokenClassification")],
)
def test_a_classifier_without_pooler_is_one_of_tokens(tmp_path, add_pooler, architecture):
    weights = {
        name: x
        for name, x in torch_weights().items()
        if name.startswith("bert/") and (add_pooler or "pooler" not in name)
    }
    weights |= {"output_weights": np.ones([3, 4], "f"), "output_bias": np.ones(3, "f")}
    checkpoints.save(weights, tmp_path, "huggingface", config=CONFIG)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [architecture]
    assert_same(checkpoints.read(tmp_path), weights)


# ------------------------------------------------------------------------------------- load


def test_load_reports_every_weight():
    model = heads.classifier(CONFIG, 3)
    report = checkpoints.load(model, KERAS_BERT)
    assert len(report.loaded) == 39 and report.encoder_percent == 100
    assert report.missing == ("output_bias", "output_weights") and not report.mismatched
    assert len(report.unexpected) == 7  # the heads; not the 92 slots, not global_step
    assert all(name.startswith("cls/") for name in report.unexpected)
    expected = checkpoints.read(KERAS_BERT)
    for name, weight in named_weights(model).items():
        if name in expected:
            np.testing.assert_array_equal(np.asarray(weight), expected[name])
    lines = str(report).splitlines()
    assert lines[0] == f"{KERAS_BERT}: 100% of the encoder's parameters found"
    assert lines[2] == "  missing           2  newly initialised: output_bias, output_weights"


def test_another_number_of_labels_is_a_mismatch_and_no_error(tmp_path):
    path = checkpoints.save(heads.classifier(CONFIG, 2), tmp_path / "two.ckpt", "google")
    report = checkpoints.load(heads.classifier(CONFIG, 3), path)
    assert report.mismatched == (
        ("output_bias", (3,), (2,)),
        ("output_weights", (3, 4), (2, 4)),
    )
    assert report.encoder_percent == 100
    assert "output_weights (3, 4) here, (2, 4) there" in str(report)


def test_an_incomplete_encoder_is_an_error_with_the_closest_names(tmp_path):
    weights = checkpoints.read(KERAS_BERT, optimizer_state=False)
    layer = "bert/encoder/layer_1/attention/self"
    weights[f"{layer}/querry/kernel"] = weights.pop(f"{layer}/query/kernel")
    path = checkpoints.save(weights, tmp_path / "bad.ckpt", "google")
    model = modeling.BertModel(CONFIG)
    model.build()
    before = {name: x.numpy().copy() for name, x in named_weights(model).items()}
    closest = f"{layer}/query/kernel is missing; the closest is {layer}/querry/kernel"
    with pytest.raises(ValueError, match=closest) as error:
        checkpoints.load(model, path)
    assert f"{path} holds 97.45% of the encoder's parameters" in str(error.value)
    remedy = str(error.value).splitlines()[-1]
    assert "--allow_partial_checkpoint" in remedy and "allow_partial=True" in remedy
    assert_same({n: np.asarray(x) for n, x in named_weights(model).items()}, before)
    report = checkpoints.load(model, path, allow_partial=True)
    assert report.missing == (f"{layer}/query/kernel",)
    assert report.encoder_percent == pytest.approx(97.45, abs=0.01)


def test_something_else_than_bert_is_an_error_even_if_partial_is_allowed(tmp_path):
    path = checkpoints.save({"output_bias": np.zeros(2, "f")}, tmp_path / "x.ckpt", "google")
    with pytest.raises(ValueError, match="holds 0% of the encoder") as error:
        checkpoints.load(heads.classifier(CONFIG, 2), path, allow_partial=True)
    assert "allow_partial" not in str(error.value)


def test_another_vocabulary_is_an_error_with_both_sizes():
    config = BertConfig.from_dict(CONFIG.to_dict() | {"vocab_size": 99})
    with pytest.raises(ValueError, match=r"word embeddings for 15 pieces.* vocab_size=99; use"):
        checkpoints.load(modeling.BertModel(config), KERAS_BERT)


def test_too_few_positions_is_an_error_with_both_shapes():
    config = BertConfig.from_dict(CONFIG.to_dict() | {"max_position_embeddings": 8})
    with pytest.raises(ValueError, match=r"position_embeddings: \(8, 4\) in the model, \(16, 4\)"):
        checkpoints.load(modeling.BertModel(config), KERAS_BERT)


def test_anyones_keras_model_with_a_bert_inside():
    inputs = keras.Input([None], dtype="int32")
    pooled = modeling.BertModel(CONFIG)({"input_ids": inputs})["pooled_output"]
    pooled = keras.layers.Dense(5)(pooled)
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    report = checkpoints.load(model, KERAS_BERT)
    assert len(report.loaded) == 39 and len(report.missing) == 4
    encoders = [modeling.BertModel(CONFIG, name=name) for name in ("a", "b")]
    pooled = [encoder({"input_ids": inputs})["pooled_output"] for encoder in encoders]
    twice = keras.Model(inputs, pooled)
    with pytest.raises(ValueError, match="more than once"):
        checkpoints.load(twice, KERAS_BERT)


# ------------------------------------------------------------------------------ .weights.h5


def test_keras_loads_the_weights_file(tmp_path):
    model = heads.classifier(CONFIG, 3)
    path = checkpoints.save(model, tmp_path, "keras")
    other = heads.classifier(CONFIG, 3)
    other.load_weights(path)
    ours, theirs = named_weights(model), named_weights(other)
    assert_same({n: x.numpy() for n, x in theirs.items()}, checkpoints.read(path))
    assert_same({n: x.numpy() for n, x in ours.items()}, checkpoints.read(path))


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_weights_of_few_digits_are_kept_to_the_bit(tmp_path, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model, other = heads.classifier(CONFIG, 3), heads.classifier(CONFIG, 3)
        path = checkpoints.save(model, tmp_path, "keras")
        other.load_weights(path)
        checkpoints.load(heads.classifier(CONFIG, 3), path)
    finally:
        keras.config.set_dtype_policy(before)
    written = {name: np.asarray(x) for name, x in named_weights(model).items()}
    assert policy in {x.dtype.name for x in written.values()}
    assert_same(checkpoints.read(path), written)
    assert_same({n: np.asarray(x) for n, x in named_weights(other).items()}, written)
    prefix = checkpoints.save(model, tmp_path / "bert_model.ckpt", "google")
    convert(prefix, str(tmp_path / "converted.weights.h5"))
    wide = {name: x.astype(np.float32) for name, x in written.items()}
    assert_same(checkpoints.read(tmp_path / "converted.weights.h5"), wide)


def test_a_weights_file_of_kerass_own_is_named(tmp_path):
    path = tmp_path / "x.weights.h5"
    keras.saving.save_weights(heads.classifier(CONFIG, 3), path)
    with pytest.raises(ValueError, match=r"x.weights.h5 bears none of Google's names"):
        checkpoints.read(path)


def test_a_weights_file_that_points_elsewhere_is_refused(tmp_path):
    path = tmp_path / "x.weights.h5"
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(path, "w") as file:
        outside = [(str(tmp_path / "secret"), 0, 8)]
        dataset = file.create_dataset("0", (2,), "f4", external=outside)
        dataset.attrs["bert_tf_name"] = "output_bias"
    with pytest.raises(ValueError, match="output_bias is not in this file"):
        checkpoints.read(path)


def test_unknown_formats_and_missing_configs(tmp_path):
    with pytest.raises(ValueError, match="format='torch'; use one of google, huggingface, keras"):
        checkpoints.save({}, tmp_path, "torch")
    with pytest.raises(ValueError, match=r"needs the config; pass config="):
        checkpoints.save({}, tmp_path, "huggingface")
