"""The loss of question answering, against its definition on Google's recorded logits."""

import numpy as np
import pytest
import tensorflow as tf
from test_heads import restored
from test_modeling import load_golden

from bert_tf.tasks.objectives import span


@pytest.fixture(scope="module", params=["gelu", "relu_types16"])
def recorded(request):
    return load_golden(request.param)


def batch_of(arrays, rows):
    """The recorded inputs with positions for each row."""
    names = ("input_ids", "input_mask", "segment_ids")
    random = np.random.default_rng(0)
    used = arrays["input_mask"].sum(axis=1)
    batch = {name: tf.constant(arrays[name][:rows]) for name in names}
    for name in ("start_positions", "end_positions"):
        batch[name] = tf.constant(random.integers(used[:rows])[:, None], tf.int32)
    return batch


def google_loss(logits, positions):
    """Mean over rows of -log softmax at the position, over the whole row (float64)."""
    logits = logits.astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probs[np.arange(len(logits)), positions.numpy()[:, 0]].mean()


def loss(objective, outputs, batch):
    (numerator,) = objective.numerators(outputs, batch)
    (denominator,) = objective.denominators(batch)
    return float(numerator / denominator)


def test_loss_of_recorded_logits(recorded):
    _, arrays, _ = recorded
    batch = batch_of(arrays, len(arrays["input_ids"]))
    model, inputs = restored("span", recorded)
    sides = ("start", "end")
    expected = np.mean(
        [google_loss(arrays[f"out/squad_{s}_logits"], batch[f"{s}_positions"]) for s in sides]
    )
    assert loss(span(), model(inputs), batch) == pytest.approx(expected, abs=1e-6)


def test_rows_that_fill_a_batch_do_not_count(recorded):
    _, arrays, _ = recorded
    batch = batch_of(arrays, 3)
    outputs = {
        name: tf.constant(arrays[f"out/squad_{name}"][:3])
        for name in ("start_logits", "end_logits")
    }
    filled = {name: tf.pad(value, [[0, 2], [0, 0]]) for name, value in batch.items()}
    more = {name: tf.pad(value, [[0, 2], [0, 0]]) for name, value in outputs.items()}
    assert loss(span(), more, filled) == pytest.approx(loss(span(), outputs, batch), abs=1e-6)


def test_no_answer_in_padding_unless_google_exact():
    logits = {
        name: tf.constant([[1.0, 2.0, 3.0]], tf.bfloat16) for name in ("start_logits", "end_logits")
    }
    batch = {"input_mask": tf.constant([[1, 1, 0]])}
    found = span().results(logits, batch)
    assert found["start_logits"].numpy().tolist() == [[1.0, 2.0, -np.inf]]
    assert found["end_logits"].dtype == tf.float32
    assert span(google_exact=True).results(logits, batch)["end_logits"].numpy().tolist() == [
        [1, 2, 3]
    ]
