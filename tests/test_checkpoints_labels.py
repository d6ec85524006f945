"""The labels and the task beside a model's weights: found, and carried from format to format."""

import json
from pathlib import Path

import numpy as np
import pytest

from bert_tf import checkpoints
from bert_tf.checkpoints.convert import convert
from bert_tf.config import BertConfig

KERAS_BERT = Path(__file__).parent / "golden" / "checkpoints" / "keras_bert_test"
CONFIG = BertConfig.from_json_file(KERAS_BERT / "bert_config.json")
TASK = {
    "task_type": "classification",
    "max_seq_length": 64,
    "name": "s\N{LATIN SMALL LETTER E WITH ACUTE}",
}
LABELS = ["negative", "neutral", "positiv\N{LATIN SMALL LETTER E WITH ACUTE}"]


def classifier(folder, labels, task=None):
    """Weights of a classifier with three outputs, in Google's format."""
    weights = {"output_weights": np.ones([3, 4], "f"), "output_bias": np.ones(3, "f")}
    return checkpoints.save(weights, folder, "google", config=CONFIG, labels=labels, task=task)


def test_labels_beside_the_weights(tmp_path):
    path = classifier(tmp_path, LABELS)
    assert json.loads((tmp_path / "labels.json").read_bytes()) == LABELS
    assert checkpoints.saved_labels(tmp_path) == checkpoints.saved_labels(path) == LABELS
    assert checkpoints.saved_labels(KERAS_BERT) is None
    (tmp_path / "labels.json").write_text("[]")  # regression
    assert checkpoints.saved_labels(tmp_path) == []


@pytest.mark.parametrize(
    ("id2label", "expected"),
    [
        ({str(i): f"l{i}" for i in (*range(11, 0, -1), 0)}, [f"l{i}" for i in range(12)]),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        (None, None),
    ],
)
def test_labels_in_a_hugging_face_config(tmp_path, id2label, expected):
    values = CONFIG.to_hf_dict() | {"id2label": id2label}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert checkpoints.saved_labels(tmp_path) == expected
    (tmp_path / "labels.json").write_text('["mine"]')  # says more than the config
    assert checkpoints.saved_labels(tmp_path) == ["mine"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["half', "\xff"])
def test_damaged_labels_are_named(tmp_path, text):
    (tmp_path / "labels.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{tmp_path}/labels.json "):
        checkpoints.saved_labels(tmp_path)


@pytest.mark.parametrize("id2label", [["a"], {"1": "a"}, {"x": "a"}, {"0": None}, "a"])
def test_damaged_configs_are_named(tmp_path, id2label):
    (tmp_path / "config.json").write_text(json.dumps({"id2label": id2label}))
    with pytest.raises(ValueError, match=f"^{tmp_path}/config.json: id2label=.* does not name"):
        checkpoints.saved_labels(tmp_path)


def test_the_task_beside_the_weights(tmp_path):
    path = classifier(tmp_path, LABELS, TASK)
    assert json.loads((tmp_path / "task.json").read_bytes()) == TASK
    assert checkpoints.saved_task(tmp_path) == checkpoints.saved_task(path) == TASK
    assert checkpoints.saved_task(KERAS_BERT) is None
    vocab_file = str(KERAS_BERT / "vocab.txt")
    checkpoints.save_description(
        str(tmp_path / "run"), CONFIG, TASK, vocab_file=vocab_file, do_lower_case=True
    )
    assert checkpoints.saved_task(tmp_path / "run") == TASK


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"task_type": 1}', '{"task_type": "half', "\xff"]
)
def test_damaged_tasks_are_named(tmp_path, text):
    (tmp_path / "task.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{tmp_path}/task.json "):
        checkpoints.saved_task(tmp_path)


def test_labels_and_task_go_along_into_every_format_and_back(tmp_path):
    source = classifier(tmp_path / "a", LABELS, TASK)
    weights = checkpoints.read(KERAS_BERT, optimizer_state=False)
    weights = {name: x for name, x in weights.items() if name.startswith("bert/")}
    checkpoints.save(weights | checkpoints.read(source), tmp_path / "a", "google")
    for number, format in enumerate(("huggingface", "keras", "google")):
        convert(source, str(tmp_path / str(number)), format)
        source = str(tmp_path / str(number))
        assert checkpoints.saved_labels(source) == LABELS
        assert checkpoints.saved_task(source) == TASK
    folder = tmp_path / "0"
    config = json.loads((folder / "config.json").read_bytes())
    assert config["id2label"] == {str(i): label for i, label in enumerate(LABELS)}
    assert config["label2id"] == {label: i for i, label in enumerate(LABELS)}
    (folder / "labels.json").unlink()  # as in anyone's Hugging Face folder
    convert(str(folder), str(tmp_path / "b.ckpt"))
    assert json.loads((tmp_path / "labels.json").read_bytes()) == LABELS


def test_labels_of_another_classifier_are_refused(tmp_path):
    source = classifier(tmp_path / "a", ["no", "yes"])
    with pytest.raises(ValueError, match=r"has 3 outputs, but 2 labels \(no, yes\); mend labels"):
        convert(source, str(tmp_path / "b"), "huggingface")
