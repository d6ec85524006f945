"""The exported model as TF Serving handles it: its loader, its warm-up, its two interfaces."""

import json
import re
import shutil
import subprocess
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from exporting import LABELS, SAMPLES, python_probabilities, serialized
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

CLIENT = Path(__file__).parent / "saved_model_client.c"
TEXTS = [*SAMPLES, ("fox " * 40, "dog " * 50), ("", None)]


@pytest.fixture(scope="module")
def servable(exported):
    return exported[0]


@pytest.fixture(scope="module", params=["text", "features"])
def folder(exported, request):
    return exported[1] / request.param / "1"


@pytest.fixture(scope="module")
def text_folder(exported):
    return exported[1] / "text" / "1"


def signature_defs(folder):
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return model.meta_graphs[0].signature_def


# ------------------------------------------------------------------------------ without Python


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_text_model_runs_without_python(servable, text_folder, tmp_path):
    """TensorFlow's C API and TF.Text's libraries, as TF Serving links them, and nothing else."""
    tensorflow, text_ops = (Path(m.__file__).parent for m in (tf, tensorflow_text))
    libraries = [f"-l:libtensorflow_{name}.so.2" for name in ("cc", "framework")]
    program = str(tmp_path / "client")
    paths = [f"-I{tf.sysconfig.get_include()}", f"-L{tensorflow}", f"-Wl,-rpath,{tensorflow}"]
    compiled = ["gcc", "-Wall", "-Werror", str(CLIENT), "-o", program, *paths, *libraries]
    subprocess.run(compiled, check=True)
    signature = signature_defs(text_folder)["serving_default"]
    output, index = signature.outputs["probabilities"].name.split(":")
    inputs = []
    for number, name in enumerate(("text_a", "text_b")):
        inputs.append(signature.inputs[name].name.removesuffix(":0"))
        inputs += [pair[number] or "" for pair in TEXTS]
    ops = [
        str(text_ops / "python" / "ops" / f"_fast_{name}.so")
        for name in ("bert_normalizer", "wordpiece_tokenizer")
    ]
    command = [program, str(text_folder), output, index, str(len(TEXTS)), *inputs, *ops]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    probabilities = np.array(done.stdout.split(), np.float32).reshape(len(TEXTS), len(LABELS))
    wanted = np.stack([python_probabilities(servable, *pair) for pair in TEXTS])
    np.testing.assert_allclose(probabilities, wanted, atol=1e-5)


# ------------------------------------------------------------------------------------- warm-up


def test_a_warm_up_request_for_each_signature(folder):
    path = str(folder / "assets.extra" / "tf_serving_warmup_requests")
    records = tf.data.TFRecordDataset(path).as_numpy_iterator()
    kinds = {}
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        kinds[getattr(log, kind).request.model_spec.signature_name] = kind
    served = {name for name, s in signature_defs(folder).items() if s.method_name}
    assert set(kinds) == served - {"__saved_model_init_op"}
    assert kinds.pop("classify") == "classify_log"
    assert set(kinds.values()) == {"predict_log"}


# ---------------------------------------------------------------------------------------- gRPC


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TF Serving's interface before one loaded SavedModel."""

    def __init__(self, folder):
        self.folder, self.loaded = folder, tf.saved_model.load(str(folder))

    def _run(self, request, inputs):
        signature = self.loaded.signatures[request.model_spec.signature_name or "serving_default"]
        return {name: x.numpy() for name, x in signature(**inputs).items()}

    def Predict(self, request, context):
        inputs = {name: tf.constant(tf.make_ndarray(x)) for name, x in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        for name, values in self._run(request, inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return response

    def Classify(self, request, context):
        examples = [e.SerializeToString() for e in request.input.example_list.examples]
        answers = self._run(request, {"inputs": tf.constant(examples)})
        response = classification_pb2.ClassificationResponse()
        for names, scores in zip(answers["classes"], answers["scores"], strict=True):
            row = response.result.classifications.add()
            for name, score in zip(names, scores, strict=True):
                row.classes.add(label=name.decode(), score=score)
        return response

    def GetModelMetadata(self, request, context):
        signatures = get_model_metadata_pb2.SignatureDefMap(
            signature_def=signature_defs(self.folder)
        )
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures)
        return response


@pytest.fixture(scope="module")
def stub(text_folder):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(text_folder), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)
    server.stop(None).wait()


def test_predict_through_grpc(servable, stub):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnli"
    for number, name in enumerate(("text_a", "text_b")):
        texts = [pair[number] or "" for pair in TEXTS]
        request.inputs[name].CopyFrom(tf.make_tensor_proto(texts))
    outputs = stub.Predict(request, timeout=60).outputs
    wanted = np.stack([python_probabilities(servable, *pair) for pair in TEXTS])
    np.testing.assert_allclose(tf.make_ndarray(outputs["probabilities"]), wanted, atol=1e-5)
    labels = [LABELS[i].encode() for i in wanted.argmax(axis=1)]
    assert tf.make_ndarray(outputs["labels"]).tolist() == labels


def test_classify_through_grpc(servable, stub):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.signature_name = "classify"
    for pair in TEXTS:
        ((ids, segments),) = servable.rows(*pair)
        example = serialized(input_ids=ids, input_mask=[1] * len(ids), segment_ids=segments)
        request.input.example_list.examples.add().ParseFromString(example)
    rows = stub.Classify(request, timeout=60).result.classifications
    assert [[c.label for c in row.classes] for row in rows] == [LABELS] * len(TEXTS)
    wanted = np.stack([python_probabilities(servable, *pair) for pair in TEXTS])
    scores = [[c.score for c in row.classes] for row in rows]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_metadata_through_grpc(stub):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    answer = stub.GetModelMetadata(request, timeout=60).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.Unpack(signatures)
    methods = {name: s.method_name for name, s in signatures.signature_def.items()}
    assert methods["classify"] == "tensorflow/serving/classify"
    assert methods["serving_default"] == "tensorflow/serving/predict"


# ---------------------------------------------------------------------------------------- REST


def test_the_requests_on_the_card_work(servable, exported):
    """Read as TF Serving reads them: columns under `inputs`, or rows of features as `examples`."""
    card = (exported[1] / "text" / "1" / "README.md").read_text()
    entry = r"^`POST /v1/models/MODEL:(\w+)`, `(\w+)` of ([\w ]+):\n\n```\n(.*)\n```"
    requests = [
        (method, model, name, body)
        for method, name, models, body in re.findall(entry, card, re.MULTILINE)
        for model in models.split(" and ")
    ]
    assert len(requests) == 9  # five signatures of the text model, four of the features model
    wanted = python_probabilities(servable, *servable.example)
    loaded = {
        kind: tf.saved_model.load(str(exported[1] / kind / "1")) for kind in ("text", "features")
    }
    for method, kind, name, body in requests:
        values = json.loads(body)
        assert values["signature_name"] == name
        signature = loaded[kind].signatures[name]
        if method == "classify":
            (features,) = values["examples"]
            lists = {k: x if isinstance(x, list) else [x] for k, x in features.items()}
            examples = [serialized(**lists)]
            probabilities = signature(inputs=tf.constant(examples))["scores"]
        else:
            specs = signature.structured_input_signature[1]
            inputs = {
                key: tf.constant([decoded(x) for x in column], specs[key].dtype)
                for key, column in values["inputs"].items()
            }
            probabilities = signature(**inputs)["probabilities"]
        np.testing.assert_allclose(probabilities, [wanted], atol=1e-5)


def decoded(value):
    return tf.io.decode_base64(web_safe(value["b64"])).numpy() if isinstance(value, dict) else value


def web_safe(text):
    return text.replace("+", "-").replace("/", "_")
