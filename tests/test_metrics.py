"""Metrics, on cases that can be worked out by hand."""

import math

import pytest

from bert_tf.metrics import METRICS


def compute(name, labels, predictions):
    return METRICS[name].compute(labels, predictions)


def test_accuracy():
    assert compute("accuracy", [0, 1, 2, 2], [0, 1, 2, 0]) == {"accuracy": 0.75}


def test_f1():
    # Two of three predicted positives are right, two of four positives are found.
    scores = compute("f1", [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0])
    assert scores == pytest.approx({"f1": 2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2), "accuracy": 0.5})


def test_matthews():
    scores = compute("matthews", [1, 1, 1, 0, 0], [1, 1, 0, 0, 1])  # tp 2, fn 1, tn 1, fp 1
    assert scores == pytest.approx({"matthews": (2 * 1 - 1 * 1) / 6, "accuracy": 0.6})


def test_matthews_of_three_classes():
    assert compute("matthews", [0, 1, 2, 0], [0, 1, 2, 0])["matthews"] == 1.0


def test_pearson_and_spearman():
    labels, predictions = [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 4.0, 9.0]
    scores = compute("pearson", labels, predictions)
    assert scores == pytest.approx({"pearson": 15 / math.sqrt(5 * 49), "spearman": 1.0})


@pytest.mark.parametrize(
    ("name", "labels", "predictions"),
    [
        ("f1", [0, 0], [0, 0]),
        ("matthews", [0, 1], [1, 1]),
        ("pearson", [0.5, 1.0], [2.0, 2.0]),
        ("pearson", [1.0, 1.0], [1.0, 2.0]),
        ("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, float("nan")]),
        ("pearson", [1.0, float("inf")], [1.0, 2.0]),
    ],
)
def test_an_undefined_value_is_0_and_said(name, labels, predictions, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        scores = compute(name, labels, predictions)
    assert scores[name] == 0.0 and scores.get("spearman", 0.0) == 0.0
    assert f"{name} is undefined" in caplog.text


def test_multilabel():
    labels = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    predictions = [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    scores = compute("multilabel_f1", labels, predictions)  # tp 2, fp 1, fn 1; F1 1, 1 and 0
    assert scores == pytest.approx({"micro_f1": 2 / 3, "macro_f1": 2 / 3, "exact_match": 1 / 3})


@pytest.mark.parametrize("name", [name for name in METRICS if name != "multilabel_f1"])
def test_primary_value_comes_first(name):
    scores = compute(name, [0, 1, 1], [0, 1, 0])
    assert next(iter(scores)) == METRICS[name].primary == name
    assert all(type(value) is float for value in scores.values())


def test_as_many_predictions_as_labels():
    with pytest.raises(ValueError, match="accuracy: 2 labels and 1 predictions"):
        compute("accuracy", [0, 1], [0])
    with pytest.raises(ValueError, match="at least one"):
        compute("accuracy", [], [])
