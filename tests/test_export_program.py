"""`python -m bert_tf.export`: what it finds out about a checkpoint, and what it asks for."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import exporting
import numpy as np
import pytest
import tensorflow as tf
from exporting import LABELS, python_probabilities

from bert_tf import checkpoints, heads
from bert_tf.export import finetuned, program
from bert_tf.export.classification import Classifier
from bert_tf.export.export_config import ExportConfig
from bert_tf.modeling import checkpoint_name

ROOT = Path(__file__).parent.parent
KERAS_BERT = Path(__file__).parent / "golden" / "checkpoints" / "keras_bert_test"
TASK = {"task_type": "classification", "max_seq_length": 24}


def save(folder, arguments, format="google", labels=LABELS, task=TASK):
    """A fine-tuned checkpoint as `final_model/` is."""
    tokenizer = arguments["tokenizer"]
    return checkpoints.save(
        arguments["model"],
        f"{folder}/",
        format,
        config=arguments["config"],
        vocab_file=tokenizer.vocab_file,
        do_lower_case=tokenizer.do_lower_case,
        labels=labels,
        task=task,
    )


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return exporting.arguments(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def bare(arguments, tmp_path_factory):
    """As Google's program leaves a checkpoint, once config and vocabulary are put beside it."""
    folder = tmp_path_factory.mktemp("bare")
    prefix = save(folder, arguments, labels=None, task=None)
    os.remove(folder / "tokenizer_config.json")
    return prefix


def run_module(*flags):
    command = [sys.executable, "-X", "importtime", "-m", "bert_tf.export", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_run_is_exported_with_what_it_noted(arguments, tmp_path, capsys):
    """Out of its final_model alone; the card has the run's data and metrics."""
    exporting.write_run(tmp_path)
    save(tmp_path / "final_model", arguments)
    source, export_dir = str(tmp_path / "final_model"), str(tmp_path / "export")
    path = program.run(ExportConfig(checkpoint=source, export_dir=export_dir))
    folder = tmp_path / "export" / "text" / "1"
    assert path == str(folder)
    assert capsys.readouterr().out.endswith(f"Exported and verified: {folder}\n")
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    answer = serve(text_a=tf.constant(["the fox"]), text_b=tf.constant(["dog"]))
    wanted = python_probabilities(Classifier(**arguments), "the fox", "dog")
    np.testing.assert_allclose(answer["probabilities"][0], wanted, atol=1e-5)
    card = (folder / "README.md").read_text()
    assert card.startswith("# mnli:") and "set: accuracy | 0.975" in card and "ab" * 32 in card


def test_googles_checkpoint_needs_labels_and_length(bare, arguments):
    def export(**flags):
        return program.servable(read(bare, **flags))

    with pytest.raises(ValueError, match="--max_seq_length is needed: no task.json beside "):
        export()
    with pytest.raises(ValueError, match="--labels is needed: .* has 3 outputs, and no labels"):
        export(max_seq_length=24)
    with pytest.raises(ValueError, match="has 3 outputs, but 2 labels: no, yes; mend --labels"):
        export(max_seq_length=24, labels="no,yes")
    with pytest.raises(ValueError, match="has 3 outputs, but a regression has one"):
        export(max_seq_length=24, task_type="regression")
    with pytest.raises(ValueError, match="--max_seq_length=33 exceeds this model's 32 positions"):
        export(max_seq_length=33)
    servable = export(max_seq_length=24, labels=", ".join(LABELS))
    assert (servable.labels, servable.max_seq_length) == (LABELS, 24)
    wanted = python_probabilities(Classifier(**arguments), "Café", None)
    np.testing.assert_allclose(python_probabilities(servable, "Café", None), wanted, atol=1e-6)


def hugging_face(folder, arguments, **config):
    save(folder, arguments, "huggingface", labels=None, task=None)
    values = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(values | config))
    return str(folder)


def read(path, **flags):
    return finetuned.read(ExportConfig(checkpoint=str(path), export_dir="x", **flags))


@pytest.mark.parametrize(
    ("config", "task_type"),
    [
        ({}, "classification"),
        ({"problem_type": "multi_label_classification"}, "multilabel"),
        ({"problem_type": "single_label_classification"}, "classification"),
        ({"architectures": ["BertForTokenClassification"]}, "tagging"),
    ],
)
def test_hugging_face_folders_say_what_they_are(arguments, tmp_path, config, task_type):
    names = {"id2label": {str(i): label for i, label in enumerate(LABELS)}}
    path = hugging_face(tmp_path / "hf", arguments, **config, **names)
    found = read(path, max_seq_length=24)
    assert (found.task_type, found.labels) == (task_type, LABELS)
    servable = program.servable(found)
    assert (servable.task_type, servable.labels) == (task_type, LABELS)
    ours = {checkpoint_name(weight): weight for weight in arguments["model"].weights}
    for theirs in servable.model.weights:
        np.testing.assert_array_equal(ours[checkpoint_name(theirs)], theirs)


def test_a_task_that_is_not_served(arguments, tmp_path):
    save(tmp_path, arguments, task=TASK | {"task_type": "pretraining"})
    with pytest.raises(ValueError, match="was trained for pretraining; what can be exported is cl"):
        program.run(ExportConfig(checkpoint=str(tmp_path), export_dir="x"))


def test_one_output_without_labels_is_a_regression(tmp_path):
    arguments = exporting.arguments(tmp_path, "regression")
    save(tmp_path / "a", arguments, labels=[], task=None)
    found = read(tmp_path / "a", max_seq_length=24)
    assert found.task_type == "regression"
    assert program.servable(found).labels == []


def test_the_tasks_own_settings_are_kept(arguments, tmp_path):
    save(tmp_path, arguments, task=TASK | {"task_type": "multilabel", "more": 3})
    found = read(tmp_path)
    assert (found.task_type, found.max_seq_length, found.task["more"]) == ("multilabel", 24, 3)
    assert read(tmp_path, max_seq_length=16).max_seq_length == 16
    with pytest.raises(ValueError, match="--task_type=regression, but task.json beside .* says m"):
        read(tmp_path, task_type="regression")


def test_heads_that_cannot_be_served_are_named(arguments, tmp_path):
    assert read(KERAS_BERT, max_seq_length=16).task_type == "masked_lm"
    weights = checkpoints.read(KERAS_BERT, optimizer_state=False)
    for name in ("bert_config.json", "vocab.txt"):
        shutil.copy(KERAS_BERT / name, tmp_path / name)
    bare = {name: value for name, value in weights.items() if name.startswith("bert/")}
    checkpoints.save(bare, tmp_path, "google")
    with pytest.raises(ValueError, match="no head that could be served: neither a classifier's"):
        read(tmp_path, max_seq_length=16)
    spans = {
        "cls/squad/output_weights": np.ones([2, 4], "f"),
        "cls/squad/output_bias": np.ones(2, "f"),
    }
    checkpoints.save(weights | spans, tmp_path, "google")
    assert read(tmp_path, max_seq_length=16).task_type == "question_answering"
    with pytest.raises(ValueError, match="holds no output_weights and output_bias of a classifier"):
        program.run(
            ExportConfig(
                checkpoint=str(tmp_path),
                export_dir="x",
                task_type="classification",
                max_seq_length=16,
            )
        )


def test_weights_that_are_lacking_are_named(bare, arguments, tmp_path):
    found = read(bare, max_seq_length=24)
    tensors = {name: x for name, x in found.tensors.items() if "pooler" not in name}
    checkpoints.save(tensors, tmp_path, "google", config=arguments["config"])
    shutil.copy(arguments["tokenizer"].vocab_file, tmp_path)
    found = read(tmp_path, max_seq_length=24)
    with pytest.raises(
        ValueError, match="no classification model of its config: bert/pooler/dense"
    ):
        found.load(heads.classifier(arguments["config"], 3))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"labels": "a,,b"}, "--labels=a,,b: a label is empty"),
        ({"labels": "a,b,a"}, "--labels=a,b,a: a label is .* there twice"),
        ({"max_seq_length": 2}, "--max_seq_length=2 leaves no room"),
    ],
)
def test_flags_that_make_no_sense(flags, said):
    with pytest.raises(ValueError, match=said):
        ExportConfig(checkpoint="c", export_dir="x", **flags)


def test_help_does_without_tensorflow():
    ran = run_module("--helpshort")
    assert "bert_tf.export.export_config" in ran.stderr and "tensorflow" not in ran.stderr
    assert "Writes SavedModels for TF Serving from a fine-tuned checkpoint" in ran.stdout
    shown = set(re.findall(r"^  --(\w+):", ran.stdout, re.M))
    assert {"checkpoint", "export_dir", "task_type", "max_seq_length", "labels"} <= shown


def test_a_missing_checkpoint_ends_in_one_line(tmp_path):
    ran = run_module(f"--checkpoint={tmp_path / 'none'}", "--export_dir=x")
    assert ran.returncode == 1
    (line,) = [x for x in ran.stderr.splitlines() if not x.startswith("import time:")]
    path = tmp_path / "none"
    assert line.startswith(f"Error: --checkpoint={path}: no checkpoint at {path}")
