"""What flags change about a step, and what they must not change."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from test_training import assert_equal, make_config, make_loop, rows, scalars, train, weights

from bert_tf import modeling, optimization, train_step, training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.optimization import layerwise_scale

__all__ = ["rows"]  # a fixture
ROOT = Path(__file__).parent.parent


def assert_close(a, b, atol):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=atol, err_msg=name)


# LAMB is longer only: it gets the same gradients.
@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("lamb", marks=pytest.mark.slow)])
def test_accumulation_equals_the_large_batch(tmp_path, rows, optimizer):
    """Three parts of two rows against six rows: losses and weights to 1e-5."""
    options = {"dropout": 0.0, "optimizer": optimizer}
    whole, losses = train(tmp_path / "whole", rows, **options)
    parts, part_losses = train(tmp_path / "parts", rows, gradient_accumulation_steps=3, **options)
    assert_close(whole, parts, 1e-5)
    assert [part_losses[s] for s in losses] == pytest.approx(list(losses.values()), abs=1e-5)


def test_the_flag_chooses_the_schedule(tmp_path):
    for name, rate in (("google", 0.7e-3), ("linear", 1e-3)):
        optimizer = make_loop(make_config(tmp_path, lr_schedule=name)).optimizer(10, 2)
        optimizer.global_step.assign(2)
        assert optimizer.learning_rate.numpy() == pytest.approx(rate)


def test_accumulation_draws_other_dropout_in_each_part(tmp_path, rows):
    """The same two rows twice over in one step would otherwise get the same mask."""
    _, whole = train(tmp_path / "whole", rows, steps=1)
    parts, losses = train(tmp_path / "a", rows, steps=2, gradient_accumulation_steps=2)
    assert whole[1] != losses[1]
    again, _ = train(tmp_path / "b", rows, steps=2, gradient_accumulation_steps=2)
    assert_equal(parts, again)


def test_several_steps_in_one_call_are_the_same_steps(tmp_path, rows):
    """Bit for bit, dropout included, also where a save cuts the calls (2, 1 and 1 of 4)."""
    changes = {"steps": 4, "save_checkpoints_steps": 3}
    single, losses = train(tmp_path / "one", rows, **changes)
    several, losses_of_several = train(tmp_path / "two", rows, steps_per_execution=2, **changes)
    assert_equal(single, several)
    assert losses == losses_of_several and len(losses) == 4


def test_xla_gives_the_same_numbers(tmp_path, rows):
    plain, losses = train(tmp_path / "plain", rows, steps=3, dropout=0.0)
    compiled, compiled_losses = train(tmp_path / "xla", rows, steps=3, dropout=0.0, use_xla=True)
    assert_close(plain, compiled, 1e-5)
    assert [compiled_losses[s] for s in losses] == pytest.approx(list(losses.values()), abs=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_that_are_computed_again_change_nothing(tmp_path, rows, dropout):
    """Losses and weights to 1e-6, with the masks of the first time."""
    plain, losses = train(tmp_path / "plain", rows, dropout=dropout)
    again, losses_again = train(tmp_path / "again", rows, dropout=dropout, recompute=True)
    assert_close(plain, again, 1e-6)
    assert [losses_again[s] for s in losses] == pytest.approx(list(losses.values()), abs=1e-6)


def test_recomputed_layers_keep_no_activations(tmp_path, rows):
    """What the graph hands from the layers to their gradients: their inputs, nothing wider."""

    def kept(recompute):
        loop = make_loop(make_config(tmp_path, recompute=recompute))
        encoder = loop.model.bert.encoder
        x = tf.random.normal([2 * 16, loop.model.bert.config.hidden_size])
        with modeling.dropout_seed([1, 2]):
            function = tf.function(lambda x: encoder(x, tf.ones([2, 16]), training=True)[-1])
            graph = function.get_concrete_function(tf.TensorSpec(x.shape))
        forward, _ = graph._delayed_rewrite_functions.forward_backward()
        return sum(np.prod(output.shape) for output in forward.graph.outputs[1:])

    assert kept(True) < kept(False) / 4


def test_words_by_a_matrix_product(tmp_path, rows):
    """The same loss; then the gradient is that of a matrix, whose norm is another one."""
    _, rows_of = train(tmp_path / "a", rows, steps=1, dropout=0.0)
    _, product = train(tmp_path / "b", rows, steps=1, dropout=0.0, use_one_hot_embeddings=True)
    assert product[1] == pytest.approx(rows_of[1], abs=1e-6)
    norms = [scalars(tmp_path / x, "gradient_norm")[1] for x in "ab"]
    assert norms[0] != pytest.approx(norms[1], rel=1e-3)


# ----------------------------------------------------------------------------------- float16

FLOAT16 = {"precision": "mixed_float16", "dropout": 0.0}


def test_float16_stays_near(tmp_path, rows):
    exact, losses = train(tmp_path / "exact", rows, dropout=0.0)
    _, near = train(tmp_path / "near", rows, **FLOAT16)
    assert [near[s] for s in losses] == pytest.approx(list(losses.values()), abs=0.01)
    assert set(scalars(tmp_path / "near", "loss_scale").values()) == {2.0**15}


def test_a_loss_scale_that_is_too_large_is_halved_and_the_step_left_out(
    tmp_path, rows, monkeypatch
):
    monkeypatch.setattr(optimization.LossScale, "FIRST", 2.0**40)
    config = make_config(tmp_path, precision="mixed_float16")
    loop, manager = make_loop(config), CheckpointManager(config.output_dir)
    before = weights(loop)
    loop.train(rows, range(4), 60, 2, manager)
    assert_equal(before, weights(loop))
    assert list(scalars(tmp_path, "loss_scale").values()) == [2.0 ** (40 - n) for n in range(4)]
    assert not np.isfinite(list(scalars(tmp_path, "gradient_norm").values())).any()
    # It is saved with the rest; in time there is a scale that fits.
    again = make_loop(config)
    again.train(rows, range(60), 60, 2, manager)
    assert scalars(tmp_path, "loss_scale")[5] == 2.0**36
    assert any((value != before[name]).any() for name, value in weights(again).items())


def test_a_loss_scale_grows_after_good_steps(monkeypatch):
    monkeypatch.setattr(optimization.LossScale, "PATIENCE", 2)
    scale, found = optimization.LossScale(), []
    for finite in (True, True, True, False, True, True):
        scale.update(tf.constant(finite))
        found.append(float(scale.value))
    assert [x / 2.0**15 for x in found] == [1, 2, 2, 1, 1, 2]


# ------------------------------------------------------------------------------------- memory

OUT_OF_MEMORY = """
import resource, sys
sys.path[:0] = ["tests"]
import dataclasses
import numpy as np
from bert_tf import distribution, heads, train_step, training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.config import BertConfig
from bert_tf.data import records
from bert_tf.tasks import objectives
from test_training import make_config

LENGTH = 256
class Rows:
    spec = records.classification_spec(LENGTH, False)
    def __len__(self): return 24
    def batch(self, indices, epochs=None):
        ones = np.ones((len(indices), LENGTH), np.int32)
        columns = {"label_ids": ones[:, :1], "is_real_example": ones[:, :1]}
        columns["label_ids"] = columns["label_ids"] * (indices[:, None] % 3).astype(np.int32)
        return columns | {"input_ids": ones * 7, "input_mask": ones, "segment_ids": ones * 0}

# Little to compute, much to keep: 24 rows * 64 heads * 256 * 256 scores, several times.
shape = BertConfig(vocab_size=100, hidden_size=64, num_hidden_layers=1, num_attention_heads=64,
    intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
def run(folder, **changes):
    config = make_config(folder, max_seq_length=LENGTH, train_batch_size=24, **changes)
    model = heads.classifier(shape, 3, dropout_rate=0.0)
    for v in model.variables: v.assign(np.random.default_rng(5).normal(0, 0.1, v.shape))
    loop = training.Loop(config, model, objectives.sequence("classification"),
        distribution.create_strategy(config))
    loop.train(Rows(), range(2), 2, 1, CheckpointManager(config.output_dir))
    return [v.numpy() for v in model.variables]

attempt, soft = train_step.TrainStep.try_gradients, resource.getrlimit(resource.RLIMIT_AS)
def once(self, parts):
    train_step.TrainStep.try_gradients = attempt
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1200 << 20), soft[1]))
    try: attempt(self, parts)
    finally: resource.setrlimit(resource.RLIMIT_AS, soft)
train_step.TrainStep.try_gradients = once
found = run(sys.argv[1] + "/a", auto_batch=True)
whole = run(sys.argv[1] + "/b")
print("DIFFERENCE", max(np.abs(a - b).max() for a, b in zip(whole, found)))
"""


def test_parts_are_doubled_until_they_fit(tmp_path, rows, monkeypatch, capsys):
    """Six rows in four parts, two of them longer by a row that counts nothing."""
    attempt = train_step.TrainStep.try_gradients

    def small(self, parts):
        if len(parts[0]["input_ids"]) / self._config.gradient_accumulation_steps > 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        attempt(self, parts)

    whole, losses = train(tmp_path / "whole", rows, dropout=0.0)
    monkeypatch.setattr(train_step.TrainStep, "try_gradients", small)
    parts, part_losses = train(tmp_path / "parts", rows, dropout=0.0, auto_batch=True)
    assert capsys.readouterr().out.count("is tried") == 2
    assert_close(whole, parts, 1e-5)
    assert [part_losses[s] for s in losses] == pytest.approx(list(losses.values()), abs=1e-5)


@pytest.mark.slow
def test_what_does_not_fit_is_computed_in_parts(tmp_path):
    """A real failure to get memory: half the rows at once, and the same weights."""
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = ran.stdout.splitlines()
    assert "activations" in lines[0] and "24 rows at once" in lines[0]
    assert "--gradient_accumulation_steps=2 is tried" in lines[1]
    assert "12 rows at once, 2 parts" in lines[2]
    assert float(lines[3].split()[1]) < 1e-5


def test_a_step_that_does_not_fit_says_what_to_do(tmp_path, rows, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr("bert_tf.train_step.call", exhausted)
    with pytest.raises(MemoryError, match="step 1 does not fit into memory; give --auto_batch"):
        train(tmp_path, rows)
    with pytest.raises(MemoryError, match="a single row of this length does not fit"):
        train(tmp_path, rows, auto_batch=True)


def test_layerwise_rates():
    rate = {
        name: layerwise_scale(name, 0.5, 2)
        for name in (
            "bert/embeddings/word_embeddings",
            "bert/encoder/layer_0/output/dense/kernel",
            "bert/encoder/layer_1/output/dense/kernel",
            "bert/pooler/dense/kernel",
            "output_weights",
        )
    }
    assert list(rate.values()) == [0.125, 0.25, 0.5, 1.0, 1.0]


def test_layerwise_decay_slows_the_lower_layers(tmp_path, rows):
    start = weights(make_loop(make_config(tmp_path / "start")))
    plain, _ = train(tmp_path / "plain", rows, steps=1, dropout=0.0)
    slowed, _ = train(tmp_path / "slow", rows, steps=1, dropout=0.0, layerwise_lr_decay=0.5)
    layers = sum(name.endswith("intermediate/dense/kernel") for name in start)
    for name in ("bert/pooler/dense/kernel", "bert/embeddings/position_embeddings"):
        moved, moved_less = plain[name] - start[name], slowed[name] - start[name]
        share = layerwise_scale(name, 0.5, layers)
        np.testing.assert_allclose(moved_less, share * moved, atol=1e-6)


def test_frozen_layers_stay_and_have_no_slots(tmp_path, rows):
    config = make_config(tmp_path, freeze_layers=1)
    loop = make_loop(config)
    before = weights(loop)
    loop.model.bert.freeze(1)
    manager = CheckpointManager(config.output_dir)
    loop.train(rows, range(3), 3, 1, manager)
    after = weights(loop)
    _, saved = manager.restore_latest()
    for name in before:
        frozen = name.startswith(("bert/embeddings/", "bert/encoder/layer_0/"))
        assert (before[name] == after[name]).all() == frozen, name
        assert (f"{name}/adam_m" in saved) != frozen
    with pytest.raises(ValueError, match=r"--freeze_layers=9: this model has \d layers"):
        loop.model.bert.freeze(9)


# ------------------------------------------------------------------------------ early stopping


@pytest.fixture
def idle(monkeypatch):
    """Steps that compute nothing: when a run ends depends on what evaluation finds alone."""

    def steps(self, records, optimizer, steps, start, signals):
        for done in steps:
            optimizer.global_step.assign(done + 1)
            logs = {"loss": 1.0, "gradient_norm": 1.0, "tokens": 1, "tokens_per_second": 1.0}
            yield [(done + 1, logs)]

    monkeypatch.setattr(training.Loop, "steps", steps)


def run_with_scores(folder, rows, scores, **changes):
    """Trains 8 steps with an evaluation after each; `scores` has what they find."""
    config = make_config(folder, eval_steps=1, do_train=True, do_eval=True, **changes)
    loop, manager = make_loop(config), CheckpointManager(config.output_dir)
    asked = []

    def evaluate(step):
        asked.append(step)
        return scores[step - 1]

    return loop.train(rows, range(8), 8, 2, manager, evaluate), asked, manager


@pytest.mark.usefixtures("idle")
def test_patience_ends_the_run_and_the_best_is_known(tmp_path, rows, capsys):
    scores = [0.1, 0.5, 0.4, 0.5, float("nan"), 0.9, 0.9, 0.9]
    result, asked, manager = run_with_scores(tmp_path, rows, scores, early_stopping_patience=3)
    assert result == training.TrainingResult(0, 5, stopped_early=True)
    assert asked == [1, 2, 3, 4, 5]
    assert manager.best().endswith("model.ckpt-2") and manager.evaluations_since_best() == 3
    note = json.loads((tmp_path / "best_checkpoint.json").read_text())
    assert [step for step, _ in note["history"]] == asked
    # The same command again does not train on.
    result, asked, _ = run_with_scores(tmp_path, rows, scores, early_stopping_patience=3)
    assert result == training.TrainingResult(5, 5, stopped_early=True)
    assert "already stopped early, at step 5" in capsys.readouterr().out


@pytest.mark.usefixtures("idle")
def test_patience_survives_an_interruption(tmp_path, rows):
    scores = [0.5, 0.4, 0.3, 0.2, 0.9, 0.9, 0.9, 0.9]
    with pytest.raises(IndexError):  # killed in the evaluation of step 3
        run_with_scores(tmp_path, rows, scores[:2], early_stopping_patience=3)
    result, asked, _ = run_with_scores(tmp_path, rows, scores, early_stopping_patience=3)
    assert result.last_step == 4 and asked == [3, 4]


@pytest.mark.usefixtures("idle")
def test_without_patience_the_run_goes_on(tmp_path, rows):
    result, asked, manager = run_with_scores(tmp_path, rows, [0.5] + [0.1] * 7)
    assert result == training.TrainingResult(0, 8, stopped_early=False)
    assert manager.best().endswith("model.ckpt-1")


@pytest.mark.usefixtures("idle")
def test_the_end_is_evaluated_too(tmp_path, rows):
    config = make_config(tmp_path, eval_steps=3, do_train=True, do_eval=True)
    loop, manager = make_loop(config), CheckpointManager(config.output_dir)
    asked = []
    loop.train(rows, range(8), 8, 2, manager, lambda step: asked.append(step) or float(step))
    assert asked == [3, 6, 8] and manager.best().endswith("model.ckpt-8")


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"gradient_accumulation_steps": 4}, "--train_batch_size=6 does not divide among 1 replic"),
        ({"early_stopping_patience": 2}, "say with --eval_steps how often"),
        ({"layerwise_lr_decay": 1.5}, "--layerwise_lr_decay=1.5"),
        ({"freeze_layers": -1}, "--freeze_layers=-1"),
        ({"steps_per_execution": 0}, "--steps_per_execution=0"),
    ],
)
def test_options_that_do_not_fit(tmp_path, rows, changes, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, rows, **changes)
