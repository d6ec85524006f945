"""A call of an exported model as TF Serving gets it: a REST body, or a warm-up request on disk.

The warm-up file is a TFRecord of PredictionLog messages (tensorflow-serving-api, the extra
`serving`), which TF Serving runs before it answers anybody.
"""

import base64
import importlib.util
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from bert_tf import filesystem
from bert_tf.export.servable import Arrays, Case

# TF Serving's methods for signatures with these names; all others are served by Predict.
METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")


def rest_body(case: Case) -> dict[str, Any]:
    """What to POST to TF Serving's REST interface, to be dumped as JSON."""
    if case.function not in METHODS:
        inputs = {name: _json(values.tolist()) for name, values in case.inputs.items()}
        return {"signature_name": case.function, "inputs": inputs}
    return {"signature_name": case.function, "examples": list(map(_json_example, _examples(case)))}


def _json_example(example: tf.train.Example) -> dict[str, Any]:
    features = {}
    for name, feature in sorted(example.features.feature.items()):
        values = list(getattr(feature, feature.WhichOneof("kind")).value)
        features[name] = _json(values if len(values) > 1 else values[0])
    return features


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(x) for x in value]
    if not isinstance(value, bytes):
        return value
    text = value.decode(errors="replace")
    return text if text.isprintable() else {"b64": base64.b64encode(value).decode()}


def _examples(case: Case) -> list[tf.train.Example]:
    return [tf.train.Example.FromString(example) for example in case.inputs["inputs"]]


def can_write_warmup() -> bool:
    """Whether tensorflow-serving-api is installed."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write_warmup(folder: str, cases: Iterable[Case]) -> None:
    """Writes one request for each case into the SavedModel in `folder`."""
    path = os.path.join(folder, WARMUP_FILE)
    filesystem.make_dir(os.path.dirname(path))
    with filesystem.os_errors(path), tf.io.TFRecordWriter(path) as writer:
        for case in cases:
            writer.write(_prediction_log(case).SerializeToString(deterministic=True))


def _prediction_log(case: Case) -> Any:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    if case.function not in METHODS:
        request = log.predict_log.request
        for name, values in case.inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    else:
        request = getattr(log, f"{case.function}_log").request
        request.input.example_list.examples.extend(_examples(case))
    request.model_spec.signature_name = case.function
    return log


def read_warmup(folder: str) -> Iterator[tuple[str, Arrays]]:
    """The requests on disk: the signature and its inputs, as TF Serving would feed them."""
    from tensorflow_serving.apis import prediction_log_pb2

    path = os.path.join(folder, WARMUP_FILE)
    with filesystem.os_errors(path):
        records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = getattr(log, log.WhichOneof("log_type")).request
        if log.HasField("predict_log"):
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        else:
            examples = request.input.example_list.examples
            serialized = [example.SerializeToString() for example in examples]
            inputs = {"inputs": np.array(serialized, object)}
        yield request.model_spec.signature_name, inputs
