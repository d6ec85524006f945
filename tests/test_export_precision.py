"""Exports in bfloat16 and int8: measured, smaller, and not far from float32."""

import importlib.util
import re

import exporting
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from bert_tf import checkpoints
from bert_tf.export import export_model, litert, serving_config
from bert_tf.export.classification import Classifier
from bert_tf.export.features import padded
from bert_tf.export.precision import DevSet
from bert_tf.tasks.classification_config import ClassificationConfig

TEXTS = [*exporting.SAMPLES, ("fox " * 40, "dog " * 50), ("", None)] * 8


@pytest.fixture(scope="module", params=["classification", "regression", "multilabel"])
def servable(request, tmp_path_factory):
    return Classifier(**exporting.arguments(tmp_path_factory.mktemp("s"), request.param))


class Rows:
    """Of TEXTS, numbered."""

    def __init__(self, servable):
        self.features = padded([row for text in TEXTS for row in servable.rows(*text)])

    def __len__(self):
        return len(TEXTS)

    def batch(self, indices):
        return {name: values[indices] for name, values in self.features.items()}


def dev_set(servable):
    def scores(answers):
        found = np.concatenate([outputs(servable, answer) for answer in answers])
        return {"mean": float(found.mean()), "count": len(found)}

    return DevSet(Rows(servable), scores)


def outputs(servable, answers):
    return answers["scores" if servable.task_type == "regression" else "probabilities"]


def exact(servable, features):
    fed = {name: tf.constant(values) for name, values in features.items()}
    answers = servable.features_model().signatures["features"](**fed)
    return outputs(servable, answers).numpy()


def table(card):
    """The numbers on a card by row: (float32, other)."""
    found = re.findall(r"^\| (.+?) \| (-?[\d.]+) \| (-?[\d.]+) \|$", card, re.MULTILINE)
    return {name: (float(a), float(b)) for name, a, b in found}


def check_numbers(card, precision, share):
    """What was measured is on the card, and is what such a precision brings."""
    assert f"This model computes in {precision}. Beside float32, on the {len(TEXTS)} rows" in card
    numbers = table(card)
    assert numbers["count"] == (len(TEXTS), len(TEXTS))
    assert abs(np.subtract(*numbers["mean"])) < 0.05
    for size in ("1 row", "8 rows"):
        assert min(numbers[f"milliseconds, {size} at once"]) > 0
    whole, small = numbers["megabytes of weights"]
    assert small < share * whole or whole < 0.1  # of a tiny model little is in matrices
    assert 0 < float(re.search(r"two outputs is (\d+\.\d+)", card)[1]) < 0.2


def test_bfloat16(servable, tmp_path):
    path = export_model(
        servable, str(tmp_path), exporting.SAMPLES, None, "bfloat16", lambda: dev_set(servable)
    )
    assert path == str(tmp_path / "text" / "1")
    check_numbers((tmp_path / "text" / "1" / "README.md").read_text(), "bfloat16", 0.75)
    loaded = tf.saved_model.load(str(tmp_path / "features" / "1"))
    features = Rows(servable).batch(np.arange(5))
    fed = {name: tf.constant(values) for name, values in features.items()}
    found = outputs(servable, loaded.signatures["serving_default"](**fed))
    assert found.dtype == tf.float32
    expected = exact(servable, features)
    assert 0 < abs(found.numpy() - expected).max() < 0.1
    kinds = {v.dtype for v in loaded.weights if v.shape.rank == 2}
    assert tf.bfloat16 in kinds


def test_int8(servable, tmp_path):
    path = export_model(servable, str(tmp_path), (), None, "int8", lambda: dev_set(servable))
    assert path == str(tmp_path / "int8" / "1")
    check_numbers((tmp_path / "int8" / "1" / "README.md").read_text(), "int8", 0.5)
    run = litert.runner((tmp_path / "int8" / "1" / litert.MODEL_FILE).read_bytes())
    for count in (5, 1, 3):  # any number of rows of any length
        features = Rows(servable).batch(np.arange(count))
        found = outputs(servable, run(features))
        np.testing.assert_allclose(found, exact(servable, features), atol=0.1)
    config, tokenizer = checkpoints.architecture(path)
    assert config == servable.config
    assert tokenizer.encode("quick foxes") == servable.tokenizer.encode("quick foxes")


def test_what_cannot_be(servable, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needs a development set"):
        export_model(servable, str(tmp_path), precision="int8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install bert_tf\[litert\]"):
        export_model(servable, str(tmp_path), precision="int8", dev_set=lambda: dev_set(servable))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "give --export_dir"),
        ({"export_dir": "e", "long_text": "windows"}, "not on --long_text=windows"),
    ],
)
def test_flags_that_do_not_fit(flags, words):
    with pytest.raises(ValueError, match=words):
        given = {"task_name": "mnli", "data_dir": "d", "output_dir": "o", "do_eval": True}
        ClassificationConfig(**given, export_precision="int8", **flags)


# ------------------------------------------------------------------------- TF Serving's settings


def message(name, fields):
    """A message class of TF Serving's own that its API package does not hold, by its fields."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    made = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), start=1):
        added = made.field.add(name=field, number=number, label=1)
        if isinstance(kind, dict):
            inner = made.nested_type.add(name="Inner")
            for place, (inner_field, inner_kind) in enumerate(kind.items(), start=1):
                inner.field.add(name=inner_field, number=place, label=1, type=inner_kind)
            added.type, added.type_name = 11, f".{name}.Inner"
        elif isinstance(kind, str):
            added.type, added.type_name = 11, kind
        else:
            added.type = kind
    pool = descriptor_pool.DescriptorPool()
    from google.protobuf import wrappers_pb2

    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(wrappers_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


BOOL, STRING = 8, 9


def test_settings_are_what_tf_serving_reads():
    models = text_format.Parse(
        serving_config.MODELS, model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert [(m.name, m.base_path) for m in models] == [("text", "/models/bert/text")]
    wrapped = ".google.protobuf.Int64Value"
    sizes = "max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"
    fields = dict.fromkeys(sizes, wrapped) | {"pad_variable_length_inputs": BOOL}
    batching = text_format.Parse(serving_config.BATCHING, message("BatchingParameters", fields))
    assert batching.max_batch_size.value == 32 and not batching.pad_variable_length_inputs
    fields = {"prometheus_config": {"enable": BOOL, "path": STRING}}
    monitoring = text_format.Parse(serving_config.MONITORING, message("MonitoringConfig", fields))
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_settings_that_somebody_changed_stay(tmp_path):
    (tmp_path / "models.config").write_text("mine")
    with pytest.raises(OSError), serving_config.written(str(tmp_path)):
        raise OSError
    assert [path.name for path in tmp_path.iterdir()] == ["models.config"]
    for _ in range(2):
        with serving_config.written(str(tmp_path)):
            pass
    assert (tmp_path / "models.config").read_text() == "mine"
    assert (tmp_path / "monitoring_config.txt").read_text() == serving_config.MONITORING
