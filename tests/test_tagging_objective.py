"""What tagging minimises: words weighed alike, sentences weighed alike with a CRF."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bert_tf import checkpoints, crf, distribution, heads, training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.config import BertConfig
from bert_tf.data import records
from bert_tf.run_config import RunConfig
from bert_tf.tasks.objectives import tagging

GELU = Path(__file__).parent / "golden" / "modeling" / "gelu"
LENGTH, LABELS = 32, 3


def random_batch(rows=5, seed=0):
    rng = np.random.default_rng(seed)
    outputs = {"logits": rng.normal(size=(rows, LENGTH, LABELS)).astype(np.float32)}
    for name in crf.NAMES:
        shape = (LABELS, LABELS) if name == "transitions" else LABELS
        outputs[name] = rng.normal(size=shape).astype(np.float32)
    mask = rng.integers(0, 2, (rows, LENGTH)).astype(np.int32)
    mask[-1] = 0  # a row that only fills the batch
    labels = rng.integers(0, LABELS, (rows, LENGTH)).astype(np.int32)
    return outputs, {"label_ids": tf.constant(labels), "label_mask": tf.constant(mask)}


def test_cross_entropy_of_words():
    outputs, batch = random_batch()
    objective = tagging(use_crf=False)
    mask = batch["label_mask"].numpy().astype(bool)
    log_probs = tf.nn.log_softmax(outputs["logits"]).numpy()[mask]
    expected = -log_probs[np.arange(len(log_probs)), batch["label_ids"].numpy()[mask]]
    np.testing.assert_allclose(objective.numerators(outputs, batch)[0], expected.sum(), rtol=1e-5)
    assert objective.denominators(batch)[0] == mask.sum()
    results = objective.results(outputs, batch)
    np.testing.assert_array_equal(results["label_ids"], outputs["logits"].argmax(-1) * mask)
    np.testing.assert_allclose(tf.reduce_sum(results["loss"]), expected.sum(), rtol=1e-5)
    np.testing.assert_array_equal(results["weight"], mask.sum(axis=1))


def test_likelihood_of_sentences():
    outputs, batch = random_batch()
    objective = tagging(use_crf=True)
    labels, mask = batch["label_ids"], batch["label_mask"]
    expected = -crf.log_likelihood(outputs["logits"], labels, mask, outputs)
    np.testing.assert_allclose(objective.numerators(outputs, batch)[0], sum(expected), rtol=1e-5)
    assert objective.denominators(batch)[0] == 4
    results = objective.results(outputs, batch)
    best = crf.viterbi(outputs["logits"], mask, outputs)
    np.testing.assert_array_equal(results["label_ids"], best)
    np.testing.assert_array_equal(results["loss"], expected)
    np.testing.assert_array_equal(results["weight"], [1, 1, 1, 1, 0])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Sentences of many lengths, in which one word of eight has a label of its own."""
    rng = np.random.default_rng(5)
    path = str(tmp_path_factory.mktemp("records") / "train.tf_record")
    spec = records.tagging_spec(LENGTH)

    def features():
        for _ in range(24):
            used = rng.integers(4, 21)
            row = np.zeros((5, LENGTH), int)
            row[0, :used] = rng.integers(1, 101, used)
            row[1, :used] = 1
            row[3, 1 : used - 1] = row[0, 1 : used - 1] % 8 == 0
            row[4, 1 : used - 1] = rng.integers(0, 2, used - 2)
            row[4, 1] = 1
            yield dict(zip(spec, row.tolist(), strict=True))

    records.write(path, features(), spec)
    return records.RecordFile(path, spec)


def test_the_loop_trains_head_and_crf(tmp_path, rows):
    config = RunConfig(
        output_dir=str(tmp_path), max_seq_length=LENGTH, train_batch_size=6, learning_rate=1e-2
    )
    strategy = distribution.create_strategy(config)
    with strategy.scope():
        bert_config = BertConfig.from_json_file(GELU / "bert_config.json")
        model = heads.tagger(bert_config, LABELS, use_crf=True)
    loop = training.Loop(config, model, tagging(use_crf=True), strategy)

    def evaluate():
        results = [result for _, result in loop.forward(rows, 8, "evaluate")]
        return sum(r["loss"].sum() for r in results) / sum(r["weight"].sum() for r in results)

    before = evaluate()
    loop.train(rows, range(30), 30, 3, CheckpointManager(str(tmp_path)))
    assert evaluate() < 0.6 * before
    saved = checkpoints.read(str(tmp_path))
    assert all(saved[f"crf/{name}"].any() for name in crf.NAMES)
    assert all(f"crf/{name}/adam_m" in saved for name in crf.NAMES)
