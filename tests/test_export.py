"""The exported SavedModels answer as Python does, anywhere, or do not exist."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import exporting
import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import LABELS, SAMPLES, python_logits, python_probabilities, serialized
from tensorflow.core.protobuf import saved_model_pb2

from bert_tf.config import BertConfig
from bert_tf.export import (
    ExportError,
    classification,
    export_model,
    publication,
    requests,
    serving_config,
    text,
    verify,
)
from bert_tf.export.classification import Classifier
from bert_tf.export.features import FEATURES
from bert_tf.export.servable import Case, Model, Servable
from bert_tf.tokenization import FullTokenizer

TINY = Path(__file__).parent / "tiny"
PREDICT = Path(__file__).parents[1] / "examples" / "predict.py"
CLASSIFIER_OUTPUTS = {"label_ids": tf.int32, "labels": tf.string, "probabilities": tf.float32}
IN_EXPORT_DIR = sorted(["features", "text", *serving_config.FILES])
METHOD_OUTPUTS = {"classes": tf.string, "scores": tf.float32}


@pytest.fixture(scope="module")
def servable(exported):
    return exported[0]


@pytest.fixture(scope="module")
def home(exported):
    return exported[1]


@pytest.fixture(scope="module")
def folder(home):
    return str(home / "text" / "1")


@pytest.fixture(scope="module")
def features_folder(home):
    return str(home / "features" / "1")


def test_layout(home, folder, features_folder, servable):
    assert sorted(os.listdir(home)) == IN_EXPORT_DIR
    assert os.listdir(home / "text") == os.listdir(home / "features") == ["1"]
    asset = Path(folder, "assets", "vocab.txt")
    assert asset.read_bytes() == Path(servable.tokenizer.vocab_file).read_bytes()
    for path in (folder, features_folder):
        assert Path(path, "README.md").read_text().startswith("# classification: a fine-tuned BERT")
        assert Path(path, requests.WARMUP_FILE).stat().st_size > 0


class Doubler(Servable):
    """The smallest servable: the features model doubles numbers, the text model also reads them."""

    task_type, use, labels, example = "regression", "Doubles a number.", [], 3

    def __init__(self):
        self.tokenizer = FullTokenizer(TINY / "vocab.txt")
        self.config = BertConfig(self.tokenizer.num_tokens)
        self.max_seq_length = 3

    def features_model(self):
        module = tf.Module()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "numbers")])
        def features(numbers):
            return {"twice": 2 * numbers}

        module.features = features
        return Model(module, {"serving_default": features})

    def text_model(self, features):
        module = tf.Module()
        module.model = features.module

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "numbers")])
        def text(numbers):
            return module.model.features(tf.strings.to_number(numbers, tf.int32))

        module.text = text
        return Model(module, {"serving_default": text})

    def tricky_samples(self):
        return [0, -5]

    def answers(self, samples):
        return [np.array(list(samples), np.int32)]

    def features_cases(self, batch):
        yield Case(
            "serving_default", {"numbers": batch}, {"twice": 2 * batch}, list(map(str, batch))
        )

    def text_cases(self, batch):
        (case,) = self.features_cases(batch)
        yield case._replace(inputs={"numbers": np.array([str(x).encode() for x in batch], object)})


def saved_model(folder: str) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString(Path(folder, "saved_model.pb").read_bytes())


def test_signatures(folder, features_folder):
    ids = {name: ([None, None], tf.int32) for name in FEATURES}
    strings = {name: ([None], tf.string) for name in ("text_a", "text_b", "examples", "inputs")}
    one = {
        "features": (ids, CLASSIFIER_OUTPUTS),
        "examples": ({"examples": strings["examples"]}, CLASSIFIER_OUTPUTS),
        "classify": ({"inputs": strings["inputs"]}, METHOD_OUTPUTS),
    }
    pair = {name: strings[name] for name in ("text_a", "text_b")}
    own = {
        folder: {
            "serving_default": (pair, CLASSIFIER_OUTPUTS),
            "single_sentence": ({"text_a": strings["text_a"]}, CLASSIFIER_OUTPUTS),
        },
        features_folder: {"serving_default": (ids, CLASSIFIER_OUTPUTS)},
    }
    for path, others in own.items():
        found = {}
        for name, signature in tf.saved_model.load(path).signatures.items():
            specs = signature.structured_input_signature[1]
            inputs = {k: (s.shape.as_list(), s.dtype) for k, s in specs.items()}
            found[name] = (inputs, {k: s.dtype for k, s in signature.structured_outputs.items()})
        assert found == one | others
        (meta,) = saved_model(path).meta_graphs
        methods = {k: s.method_name for k, s in meta.signature_def.items() if k in found}
        predict = dict.fromkeys(found, "tensorflow/serving/predict")
        assert methods == predict | {"classify": "tensorflow/serving/classify"}


def test_text_signatures_answer_as_python(servable, folder):
    loaded = tf.saved_model.load(folder).signatures
    texts = [*SAMPLES, ("fox " * 40, "dog " * 50), ("a\x00b", "dog"), ("", None)]
    wanted = np.stack([python_probabilities(servable, *pair) for pair in texts])
    got = loaded["serving_default"](
        text_a=tf.constant([a for a, _ in texts]), text_b=tf.constant([b or "" for _, b in texts])
    )
    np.testing.assert_allclose(got["probabilities"], wanted, atol=1e-5)
    np.testing.assert_array_equal(got["label_ids"], wanted.argmax(axis=1))
    assert [label.decode() for label in got["labels"].numpy()] == [
        LABELS[i] for i in wanted.argmax(axis=1)
    ]
    assert np.ptp(wanted, axis=0).max() > 0.05  # the texts do tell the answers apart
    single = loaded["single_sentence"](text_a=tf.constant(["Café naïve!"]))
    np.testing.assert_allclose(single["probabilities"][0], wanted[1], atol=1e-5)


def test_a_batch_of_no_rows(folder, features_folder):
    for path in (folder, features_folder):
        exporting.check_no_rows(path)


def examples_of(servable: Classifier) -> list[bytes]:
    """One as short as its text, one padded as Google's records are."""
    rows = []
    for padding, pair in zip((0, 9), SAMPLES, strict=False):
        ((ids, segments),) = servable.rows(*pair)
        zeros = [0] * padding
        mask = [1] * len(ids) + zeros
        rows.append(
            serialized(input_ids=ids + zeros, input_mask=mask, segment_ids=segments + zeros)
        )
    return rows


def test_serialized_examples(servable, folder, features_folder):
    examples = tf.constant(examples_of(servable))
    wanted = np.stack([python_probabilities(servable, *pair) for pair in SAMPLES[:2]])
    for path in (folder, features_folder):
        loaded = tf.saved_model.load(path).signatures
        got = loaded["examples"](examples=examples)
        np.testing.assert_allclose(got["probabilities"], wanted, atol=1e-5)
        got = loaded["classify"](inputs=examples)
        np.testing.assert_allclose(got["scores"], wanted, atol=1e-5)
        assert got["classes"].numpy().tolist() == [[label.encode() for label in LABELS]] * 2


def test_examples_of_text_and_of_features_in_one_batch(servable, folder):
    """As TF Serving's batching may bring them together."""
    texts = [("the", None), ("Café naïve!", ""), ("", None), ("The lazy dog", "jumped")]
    rows = [serialized(text_a=[a], **({} if b is None else {"text_b": [b]})) for a, b in texts]
    given = examples_of(servable)
    examples = tf.constant([given[0], rows[0], given[1], *rows[1:]])
    pairs = [SAMPLES[0], texts[0], SAMPLES[1], *texts[1:]]
    wanted = np.stack([python_probabilities(servable, *pair) for pair in pairs])
    loaded = tf.saved_model.load(folder).signatures
    got = loaded["examples"](examples=examples)
    np.testing.assert_allclose(got["probabilities"], wanted, atol=1e-5)
    np.testing.assert_allclose(loaded["classify"](inputs=examples)["scores"], wanted, atol=1e-5)


@pytest.fixture(scope="module")
def classify(folder, features_folder):
    return [tf.saved_model.load(f).signatures["classify"] for f in (folder, features_folder)]


GOOD = {"input_ids": [2, 3], "input_mask": [1, 1], "segment_ids": [0, 0]}


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"text": ["a feature that is not read"]},
        {"text_b": ["the"]},
        {"text_a": ["the", "fox"]},
        {"text_a": ["the"], "text_b": ["quick", "fox"]},
        {"text_a": ["the"], **GOOD},
        {"input_ids": [2, 3], "input_mask": [1, 1]},
        {"input_ids": [2, 3], "input_mask": [1], "segment_ids": [0, 0]},
    ],
)
def test_incomplete_examples_are_refused(classify, features):
    examples = tf.constant([serialized(**GOOD), serialized(**features)])
    from_text, from_features = classify
    message = "needs either text_a .one text. or input_ids, input_mask, segment_ids, of one length"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        from_text(inputs=examples)
    if "input_ids" not in features or "text_a" not in features:
        with pytest.raises(tf.errors.InvalidArgumentError, match="needs input_ids, input_mask, s"):
            from_features(inputs=examples)


def predict(monkeypatch, capsys, *arguments: str) -> str:
    """What examples/predict.py prints."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    runpy.run_path(str(PREDICT), run_name="__main__")
    return capsys.readouterr().out


def test_predict_example(home, servable, folder, monkeypatch, capsys):
    shown = predict(monkeypatch, capsys, str(home), "The quick brown fox", "dog")
    wanted = python_probabilities(servable, "The quick brown fox", "dog")
    assert f"label:  {LABELS[wanted.argmax()]}\n" in shown
    assert "probabilities: " + " ".join(f"{p:.3f}" for p in wanted) in shown


def graph_ops(folder: str) -> set[str]:
    """Every op in the graph and in its function library."""
    (meta,) = saved_model(folder).meta_graphs
    nodes = list(meta.graph_def.node)
    for function in meta.graph_def.library.function:
        nodes += function.node_def
    return {node.op for node in nodes}


def test_text_model_needs_two_ops_of_tf_text(folder):
    """Both are in TF.Text's library for servers (ops_lib), which TF Serving links."""
    (meta,) = saved_model(folder).meta_graphs
    functions = {function.signature.name for function in meta.graph_def.library.function}
    code = """
        import sys
        import tensorflow
        from tensorflow.python.framework import op_def_registry
        print(*(op for op in sys.argv[1:] if op_def_registry.get(op) is None))
        """
    command = [sys.executable, "-c", textwrap.dedent(code), *(graph_ops(folder) - functions)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}


def test_features_model_needs_only_tensorflow(servable, folder, features_folder):
    rows = {"input_ids": [[2, 6, 3, 0]], "input_mask": [[1, 1, 1, 0]], "segment_ids": [[0] * 4]}
    code = textwrap.dedent(
        """
        import contextlib, json, sys
        sys.modules["bert_tf"] = None
        import tensorflow as tf
        from tensorflow.python.framework import op_def_registry
        from tensorflow.python.tools import saved_model_cli
        folder, rows, ops = sys.argv[1], *map(json.loads, sys.argv[2:])
        features = tf.saved_model.load(folder).signatures["serving_default"]
        answers = features(**{name: tf.constant(row) for name, row in rows.items()})
        unknown = [op for op in ops if op_def_registry.get(op) is None]
        assert "tensorflow_text" not in sys.modules
        print(json.dumps([unknown, answers["probabilities"].numpy().tolist()]))
        sys.argv = ["saved_model_cli", "show", "--dir", folder, "--all"]
        with contextlib.suppress(SystemExit):
            saved_model_cli.main()
        exprs = ";".join(f"{name}={row}" for name, row in rows.items())
        sys.argv = ["saved_model_cli", "run", "--dir", folder, "--tag_set", "serve"]
        sys.argv += ["--signature_def", "serving_default", "--input_exprs", exprs]
        saved_model_cli.main()
        """
    )
    ops = sorted(graph_ops(features_folder))
    done = subprocess.run(
        [sys.executable, "-c", code, features_folder, json.dumps(rows), json.dumps(ops)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert done.returncode == 0, done.stderr
    answers, shown = done.stdout.split("\n", 1)
    unknown, probabilities = json.loads(answers)
    assert unknown == []
    logits = servable.model({k: tf.constant(v) for k, v in rows.items()})["logits"]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits), atol=1e-5)
    assert "signature_def['serving_default']" in shown and "inputs['input_ids']" in shown
    assert "Result for output key probabilities:" in shown  # of saved_model_cli run
    python_ops = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
    assert not python_ops & (graph_ops(folder) | graph_ops(features_folder))


def test_next_free_version(tmp_path):
    for name in ("text/5", "features/7", "unfinished-1a2b", "done/text", "done/features"):
        (tmp_path / name).mkdir(parents=True)
    published = publication._publish(str(tmp_path / "done"), str(tmp_path), ["features", "text"])
    assert published == str(tmp_path / "text" / "8")
    assert sorted(os.listdir(tmp_path)) == ["done", "features", "text", "unfinished-1a2b"]
    assert sorted(os.listdir(tmp_path / "text")) == ["5", "8"]
    assert sorted(os.listdir(tmp_path / "features")) == ["7", "8"]


def test_regression_gives_scores(tmp_path, monkeypatch, capsys):
    servable = Classifier(**exporting.arguments(tmp_path, "regression"))
    path = export_model(servable, str(tmp_path / "export"), SAMPLES)
    loaded = tf.saved_model.load(path).signatures
    wanted = [python_logits(servable, *pair)[0] for pair in [("fox", None), ("dog", None)]]
    answer = loaded["single_sentence"](tf.constant(["fox", "dog"]))
    assert set(answer) == {"scores"}
    np.testing.assert_allclose(answer["scores"], wanted, rtol=1e-5)
    assert "classify" not in loaded
    answer = loaded["regress"](inputs=tf.constant(examples_of(servable)))
    wanted = [python_logits(servable, *pair)[0] for pair in SAMPLES[:2]]
    np.testing.assert_allclose(answer["outputs"], wanted, rtol=1e-5)
    (meta,) = saved_model(path).meta_graphs
    assert meta.signature_def["regress"].method_name == "tensorflow/serving/regress"
    shown = predict(monkeypatch, capsys, str(tmp_path / "export"), "The quick brown fox", "jumped")
    assert "score:  " in shown


# By default the export of test_classification.py shows that the graph answers as Python.
@pytest.mark.slow
def test_multilabel_gives_each_label_its_own_probability(tmp_path, monkeypatch, capsys):
    servable = Classifier(**exporting.arguments(tmp_path, "multilabel"))
    path = export_model(servable, str(tmp_path / "export"), SAMPLES)
    loaded = tf.saved_model.load(path).signatures
    wanted = np.stack([tf.sigmoid(python_logits(servable, *pair)) for pair in SAMPLES])
    answer = loaded["serving_default"](
        text_a=tf.constant([a for a, _ in SAMPLES]),
        text_b=tf.constant([b or "" for _, b in SAMPLES]),
    )
    np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-5)
    chosen = wanted >= 0.5
    assert 0 < chosen.sum() < chosen.size
    np.testing.assert_array_equal(answer["label_ids"], chosen)
    names = [[x if c else "" for x, c in zip(LABELS, row, strict=True)] for row in chosen]
    assert [[x.decode() for x in row] for row in answer["labels"].numpy()] == names
    answer = loaded["classify"](inputs=tf.constant(examples_of(servable)))
    np.testing.assert_allclose(answer["scores"], wanted[:2], atol=1e-5)
    shown = predict(monkeypatch, capsys, str(tmp_path / "export"), "Café naïve!")
    assert f"label:  {' '.join(filter(None, names[1]))}\n" in shown


def test_a_bfloat16_model_is_served_in_float32(tmp_path):
    float32 = exporting.arguments(tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        _, model = exporting.tiny_classifier(float32["config"].vocab_size, 3)
        served = Classifier(**{**float32, "model": model})
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    # The same seed made the same weights. `served.model` is what is written.
    wanted = python_probabilities(Classifier(**float32), "the fox", "dog")
    found = python_probabilities(served, "the fox", "dog")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def wrong_words(monkeypatch):
    make = text.graph_tokenizer

    def other(tokenizer):
        right = make(tokenizer)
        return lambda texts: right(tf.strings.regex_replace(texts, "naïve", "café"))

    monkeypatch.setattr(text, "graph_tokenizer", other)


def wrong_logits(monkeypatch):
    answers = Classifier._graph_answers
    monkeypatch.setattr(
        Classifier, "_graph_answers", lambda self, x: answers(self, {"logits": x["logits"] * 1.001})
    )


def wrong_labels(monkeypatch):
    answers = Classifier._graph_answers

    def reversed_names(self, outputs):
        found = answers(self, outputs)
        return found | {"labels": tf.gather(tf.constant(LABELS), 2 - found["label_ids"])}

    monkeypatch.setattr(Classifier, "_graph_answers", reversed_names)


def wrong_classes(monkeypatch):
    monkeypatch.setattr(
        classification.tf, "broadcast_to", lambda x, to: tf.tile([x[::-1]], [to[0], 1])
    )


def lost_row(monkeypatch):
    answers = Classifier._graph_answers

    def without_the_last(self, outputs):
        return answers(self, {"logits": outputs["logits"][:-1]})

    monkeypatch.setattr(Classifier, "_graph_answers", without_the_last)


def forgotten_signature(monkeypatch):
    cases = Classifier._shared_cases
    monkeypatch.setattr(
        Classifier,
        "_shared_cases",
        lambda *args: (case for case in cases(*args) if case.function != "examples"),
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            wrong_words,
            r"input_ids of 'Café naïve!' from tokenize: "
            r"Python \[2, 23, 24, 17, 3\], SavedModel \[2, 23, 23, 17, 3\]",
        ),
        (wrong_logits, r"probabilities of .* from serving_default: Python \["),
        (wrong_labels, r"labels of signature serving_default"),
        (wrong_classes, r"classes of .* from classify: Python \[b'contradiction', "),
        (lost_row, r"shape of probabilities from serving_default: Python \(8, 3\), .* \(7, 3\)"),
        (forgotten_signature, r"not every signature was called: examples"),
    ],
)
def test_a_model_that_answers_otherwise_is_not_exported(tmp_path, monkeypatch, spoil, said):
    servable = Classifier(**exporting.arguments(tmp_path))
    spoil(monkeypatch)
    with pytest.raises(ExportError, match=said):
        export_model(servable, str(tmp_path / "export"), SAMPLES)
    assert os.listdir(tmp_path / "export") == []


def test_warm_up_requests_are_replayed_before_the_export_counts(tmp_path, monkeypatch):
    log = requests._prediction_log

    def other_number(case):
        return log(case._replace(inputs={name: x + x for name, x in case.inputs.items()}))

    monkeypatch.setattr(requests, "_prediction_log", other_number)
    with pytest.raises(ExportError, match="twice of 3 from serving_default: Python"):
        export_model(Doubler(), str(tmp_path / "export"))
    assert os.listdir(tmp_path / "export") == []


def test_without_the_serving_api_there_is_no_warm_up_file(tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find_spec(name) if "serving" not in name else None
    )
    path = export_model(Doubler(), str(tmp_path / "export"))
    assert "pip install bert_tf[serving]), so no warm-up requests" in capsys.readouterr().out
    assert not Path(path, "assets.extra").exists()


def test_no_version_appears_unless_all_is_done(tmp_path, monkeypatch):
    """Versions appear by renaming, last of all: a process killed before leaves none."""
    export_dir = tmp_path / "export"
    rename, seen = tf.io.gfile.rename, []

    def full_disk(source, target):
        seen.append([path.name for path in export_dir.rglob("*") if path.name.isdecimal()])
        if len(seen) == 2:
            raise OSError("no space left on device")
        rename(source, target)

    monkeypatch.setattr(tf.io.gfile, "rename", full_disk)
    with pytest.raises(OSError, match="no space left"):
        export_model(Doubler(), str(export_dir))
    assert seen == [[], ["1"]]
    assert sorted(path.name for path in export_dir.rglob("*")) == ["features", "text"]


def test_remote_folders():
    path = export_model(Doubler(), "ram://export")
    assert path == "ram://export/text/1"
    assert sorted(tf.io.gfile.listdir("ram://export")) == IN_EXPORT_DIR
    assert tf.io.gfile.exists(f"ram://export/features/1/{requests.WARMUP_FILE}")
    assert verify.call(tf.saved_model.load(path), "serving_default", {"numbers": ["7"]}) == {
        "twice": 14
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["a", "b"]}, "not a classifier of this config with 2 outputs"),
        ({"labels": []}, r"task_type='classification' with labels=\[\]"),
        ({"task_type": "regression"}, r"task_type='regression' with labels=\['contr"),
        ({"max_seq_length": 33}, "33 tokens exceed this model's 32 positions"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        export_model(Classifier(**exporting.arguments(tmp_path) | change), str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
