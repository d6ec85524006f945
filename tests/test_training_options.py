"""What flags change about a step, and what they must not change."""

import json

import numpy as np
import pytest
from test_training import assert_equal, make_config, make_loop, rows, train, weights

from bert_tf import training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.optimization import layerwise_scale

__all__ = ["rows"]  # a fixture


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
