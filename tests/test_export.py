"""The exported SavedModels answer as Python does, anywhere, or do not exist."""

import json
import os
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from bert_tf import export, heads
from bert_tf.config import BertConfig
from bert_tf.export import ExportError, export_classifier, signatures
from bert_tf.graph_tokenizers import graph_tokenizer
from bert_tf.packing import pack
from bert_tf.tokenization import FullTokenizer

LABELS = ["contradiction", "entailment", "中立"]
WORDS = "the quick brown fox jump ##s ##ed over lazy dog . , ! ? ' word another short cafe naive"
MAX_SEQ_LENGTH = 24
SAMPLES = [("The quick brown fox", "jumped over"), ("Café naïve!", None), ("北京", "")]
PREDICT = Path(__file__).parents[1] / "examples" / "predict.py"
CLASSIFIER_OUTPUTS = {"label_ids": tf.int32, "labels": tf.string, "probabilities": tf.float32}


def write_vocab(folder: Path) -> Path:
    characters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *characters]
    tokens += [f"##{c}" for c in characters if c != "s"] + ["北", "京", "中", "国", "[", "]", "sep"]
    path = folder / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


def tiny_classifier(vocab_size: int, num_labels: int) -> tuple[BertConfig, keras.Model]:
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        type_vocab_size=2,
        initializer_range=0.5,
    )
    keras.utils.set_random_seed(3)
    model = heads.classifier(config, num_labels)
    scores = next(weight for weight in model.weights if weight.name == "output_weights")
    scores.assign(scores * 50)  # so that answers differ from text to text
    return config, model


def export_arguments(folder: Path, num_labels: int = 3) -> dict:
    vocab_file = write_vocab(folder)
    tokenizer = FullTokenizer(vocab_file)
    config, model = tiny_classifier(tokenizer.num_tokens, num_labels)
    return {
        "model": model,
        "config": config,
        "tokenizer": tokenizer,
        "max_seq_length": MAX_SEQ_LENGTH,
        "label_list": LABELS[:num_labels],
        "export_dir": str(folder / "export"),
        "samples": SAMPLES,
    }


def python_probabilities(arguments: dict, text_a: str, text_b: str | None) -> np.ndarray:
    tokenizer = arguments["tokenizer"]
    ids, segments = pack(
        tokenizer.encode(text_a),
        None if text_b is None else tokenizer.encode(text_b),
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        max_seq_length=arguments["max_seq_length"],
    )
    rows = {"input_ids": [ids], "input_mask": [[1] * len(ids)], "segment_ids": [segments]}
    logits = arguments["model"]({k: tf.constant(v) for k, v in rows.items()})["logits"]
    return tf.nn.softmax(logits)[0].numpy()


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `code` in a new process, where bert_tf is importable only if `code` says so."""
    hidden = "import sys; sys.modules['bert_tf'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", hidden + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return export_arguments(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def folder(arguments):
    return export_classifier(**arguments)


@pytest.fixture(scope="module")
def features_folder(arguments, folder):
    return os.path.join(arguments["export_dir"], "features", "1")


def test_layout(arguments, folder, features_folder):
    assert folder == os.path.join(arguments["export_dir"], "1")
    assert sorted(os.listdir(arguments["export_dir"])) == ["1", "features"]
    assert os.listdir(os.path.dirname(features_folder)) == ["1"]
    asset = Path(folder, "assets", "vocab.txt")
    assert asset.read_bytes() == Path(arguments["tokenizer"].vocab_file).read_bytes()


def test_signatures(folder, features_folder):
    text, features = tf.saved_model.load(folder), tf.saved_model.load(features_folder)
    ids = {name: ([None, None], tf.int32) for name in signatures.FEATURES}
    strings = {name: ([None], tf.string) for name in ("text_a", "text_b")}
    wanted = {
        (text, "serving_default"): strings,
        (text, "single_sentence"): {"text_a": strings["text_a"]},
        (text, "features"): ids,
        (features, "serving_default"): ids,
        (features, "features"): ids,
    }
    for (loaded, name), inputs in wanted.items():
        signature = loaded.signatures[name]
        specs = signature.structured_input_signature[1]
        assert {k: (s.shape.as_list(), s.dtype) for k, s in specs.items()} == inputs
        outputs = {k: s.dtype for k, s in signature.structured_outputs.items()}
        assert outputs == CLASSIFIER_OUTPUTS
    assert set(text.signatures) == {"serving_default", "single_sentence", "features"}


def test_text_signatures_answer_as_python(arguments, folder):
    loaded = tf.saved_model.load(folder).signatures
    texts = [*SAMPLES, ("fox " * 40, "dog " * 50), ("a\x00b", "dog"), ("", None)]
    wanted = np.stack([python_probabilities(arguments, *pair) for pair in texts])
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


def test_text_model_needs_only_tensorflow_and_its_text_ops(arguments, folder):
    done = run_python(
        """
        import json
        import tensorflow as tf, tensorflow_text
        serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
        answers = serve(text_a=tf.constant(["Café naïve!"]), text_b=tf.constant(["dog"]))
        print(json.dumps(answers["probabilities"].numpy().tolist()))
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr
    wanted = python_probabilities(arguments, "Café naïve!", "dog")
    np.testing.assert_allclose(json.loads(done.stdout)[0], wanted, atol=1e-5)


def predict(monkeypatch, capsys, *arguments: str) -> str:
    """What examples/predict.py prints."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    runpy.run_path(str(PREDICT), run_name="__main__")
    return capsys.readouterr().out


def test_predict_example(arguments, folder, monkeypatch, capsys):
    shown = predict(monkeypatch, capsys, arguments["export_dir"], "The quick brown fox", "dog")
    wanted = python_probabilities(arguments, "The quick brown fox", "dog")
    assert f"label:  {LABELS[wanted.argmax()]}\n" in shown
    assert "probabilities: " + " ".join(f"{p:.3f}" for p in wanted) in shown


def graph_ops(folder: str) -> set[str]:
    """Every op in the graph and in its function library."""
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(Path(folder, "saved_model.pb").read_bytes())
    (meta,) = model.meta_graphs
    nodes = list(meta.graph_def.node)
    for function in meta.graph_def.library.function:
        nodes += function.node_def
    return {node.op for node in nodes}


def test_features_model_needs_only_tensorflow(arguments, folder, features_folder):
    rows = {"input_ids": [[2, 6, 3, 0]], "input_mask": [[1, 1, 1, 0]], "segment_ids": [[0] * 4]}
    done = run_python(
        """
        import json
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
        saved_model_cli.main()
        """,
        features_folder,
        json.dumps(rows),
        json.dumps(sorted(graph_ops(features_folder))),
    )
    assert done.returncode == 0, done.stderr
    answers, shown = done.stdout.split("\n", 1)
    unknown, probabilities = json.loads(answers)
    assert unknown == []
    logits = arguments["model"]({k: tf.constant(v) for k, v in rows.items()})["logits"]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits), atol=1e-5)
    assert "signature_def['serving_default']" in shown and "inputs['input_ids']" in shown
    python_ops = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
    assert not python_ops & (graph_ops(folder) | graph_ops(features_folder))


def test_next_free_version(tmp_path):
    for name in ("5", "unfinished-1a2b", "features/7", "done/text", "done/features"):
        (tmp_path / name).mkdir(parents=True)
    published = export._publish(
        str(tmp_path / "done" / "text"), str(tmp_path / "done" / "features"), str(tmp_path)
    )
    assert published == str(tmp_path / "8")
    assert sorted(os.listdir(tmp_path)) == ["5", "8", "done", "features", "unfinished-1a2b"]
    assert sorted(os.listdir(tmp_path / "features")) == ["7", "8"]


def test_regression_gives_scores(tmp_path, monkeypatch, capsys):
    arguments = export_arguments(tmp_path, num_labels=1)
    path = export_classifier(**{**arguments, "label_list": []}, regression=True)
    answer = tf.saved_model.load(path).signatures["single_sentence"](tf.constant(["fox", "dog"]))
    assert set(answer) == {"scores"} and answer["scores"].shape == [2]
    shown = predict(monkeypatch, capsys, arguments["export_dir"], "fox")
    assert f"score:  {answer['scores'][0]:.3f}\n" in shown


def test_a_bfloat16_model_is_served_in_float32(tmp_path):
    float32 = export_arguments(tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        _, model = tiny_classifier(float32["config"].vocab_size, 3)
        path = export_classifier(**{**float32, "model": model})
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    serve = tf.saved_model.load(path).signatures["serving_default"]
    answer = serve(text_a=tf.constant(["the fox"]), text_b=tf.constant(["dog"]))
    wanted = python_probabilities(float32, "the fox", "dog")  # same seed, so the same weights
    np.testing.assert_allclose(answer["probabilities"][0], wanted, atol=1e-5)


def wrong_case(monkeypatch):
    def other(tokenizer):
        return graph_tokenizer(FullTokenizer(tokenizer.vocab_file, do_lower_case=False))

    monkeypatch.setattr(signatures, "graph_tokenizer", other)


def wrong_logits(monkeypatch):
    answers = signatures._answers
    monkeypatch.setattr(signatures, "_answers", lambda x, *rest: answers(x * 1.001, *rest))


def wrong_labels(monkeypatch):
    answers = signatures._answers
    monkeypatch.setattr(
        signatures, "_answers", lambda x, labels, *rest: answers(x, labels[::-1], *rest)
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            wrong_case,
            r"input_ids of 'Café naïve!': Python \[2, 23, 24, 17, 3\], SavedModel \[2, 1, ",
        ),
        (wrong_logits, r"probabilities of .* from signature serving_default: Python \["),
        (wrong_labels, r"labels of signature serving_default"),
    ],
)
def test_a_model_that_answers_otherwise_is_not_exported(tmp_path, monkeypatch, spoil, said):
    arguments = export_arguments(tmp_path)
    spoil(monkeypatch)
    with pytest.raises(ExportError, match=said):
        export_classifier(**arguments)
    assert os.listdir(arguments["export_dir"]) == []


def test_no_version_appears_unless_all_is_done(tmp_path, monkeypatch):
    """Versions appear by renaming, last of all: a process killed before leaves none."""
    arguments = export_arguments(tmp_path)
    export_dir = Path(arguments["export_dir"])
    rename, seen = tf.io.gfile.rename, []

    def full_disk(source, target):
        seen.append([path.name for path in export_dir.rglob("*") if path.name.isdecimal()])
        if len(seen) == 2:
            raise OSError("no space left on device")
        rename(source, target)

    monkeypatch.setattr(tf.io.gfile, "rename", full_disk)
    with pytest.raises(OSError, match="no space left"):
        export_classifier(**arguments)
    assert seen == [[], ["1"]]
    assert [path.name for path in export_dir.rglob("*")] == ["features"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label_list": ["a", "b"]}, "not a classifier of this config with 2 outputs"),
        ({"max_seq_length": 33}, "33 tokens exceed this model's 32 positions"),
    ],
)
def test_arguments_that_do_not_fit(arguments, tmp_path, change, said):
    export_dir = tmp_path / "none"
    with pytest.raises(ValueError, match=said):
        export_classifier(**{**arguments, "export_dir": str(export_dir), **change})
    assert not export_dir.exists()
