"""The training loop: which rows, which padding, and that a run is one run however it is cut up."""

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bert_tf import checkpoints, distribution, heads, modeling, training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.config import BertConfig
from bert_tf.data import records
from bert_tf.preemption import PreemptedError
from bert_tf.run_config import RunConfig
from bert_tf.tasks import objectives

GELU = Path(__file__).parent / "golden" / "modeling" / "gelu"
LENGTH, ROWS = 32, 24


# ------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Random rows of many lengths for the tiny golden model."""
    rng = np.random.default_rng(5)
    path = str(tmp_path_factory.mktemp("records") / "train.tf_record")
    spec = records.classification_spec(LENGTH, regression=False)

    def features():
        for _ in range(ROWS):
            used = rng.integers(4, 21)
            row = np.zeros((3, LENGTH), int)
            row[0, :used] = rng.integers(1, 101, used)
            row[1, :used] = 1
            row[2, used // 2 : used] = 1
            ids, mask, segments = (list(map(int, values)) for values in row)
            yield {
                "input_ids": ids,
                "input_mask": mask,
                "segment_ids": segments,
                "label_ids": [int(rng.integers(3))],
                "is_real_example": [1],
            }

    records.write(path, features(), spec)
    return records.RecordFile(path, spec)


def make_loop(config, dropout=0.1):
    """A loop over the golden model; `dropout` applies everywhere."""
    bert_config = dataclasses.replace(
        BertConfig.from_json_file(GELU / "bert_config.json"),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    strategy = distribution.create_strategy(config)
    with strategy.scope(), distribution.precision_policy(config.precision):
        model = heads.classifier(bert_config, 3, dropout_rate=dropout)
    checkpoints.load(model, str(GELU / "bert_model.ckpt"))
    return training.Loop(config, model, objectives.sequence("classification"), strategy)


def make_config(folder, **changes):
    defaults = {
        "output_dir": str(folder),
        "max_seq_length": LENGTH,
        "train_batch_size": 6,
        "learning_rate": 1e-3,
        "save_checkpoints_steps": 3,
    }
    return RunConfig(**defaults | changes)


def weights(loop):
    return {modeling.checkpoint_name(v): v.numpy() for v in loop.model.variables}


def train(folder, rows, steps=8, dropout=0.1, **changes):
    """The weights after `steps` steps, and the losses TensorBoard was given."""
    config = make_config(folder, **changes)
    loop = make_loop(config, dropout)
    manager = CheckpointManager(config.output_dir, writes=loop.replicas.is_chief)
    loop.train(rows, range(steps), steps, 2, manager)
    return weights(loop), scalars(folder, "loss")


def scalars(folder, name):
    found = {}
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == name:
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, rows):
    """A run of 8 steps with dropout: its folder, weights and losses."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *train(folder, rows)


@pytest.fixture(scope="module")
def exact(tmp_path_factory, rows):
    """The same without dropout: weights and losses."""
    return train(tmp_path_factory.mktemp("exact"), rows, dropout=0.0)


def test_same_seed_same_run_and_another_seed_another(tmp_path, rows, whole):
    _, first, losses = whole
    again, losses_again = train(tmp_path / "b", rows)
    assert_equal(first, again)
    assert losses == losses_again and len(losses) == 8
    other, _ = train(tmp_path / "c", rows, random_seed=6)
    assert any((first[name] != other[name]).any() for name in first)


def test_padding_changes_nothing(tmp_path, rows, exact):
    """Each batch at its own length, and every batch at full length: the same losses (1e-6)."""
    _, short = exact
    _, full = train(tmp_path, rows, dropout=0.0, pad_to_max_seq_length=True)
    for step in short:
        assert short[step] == pytest.approx(full[step], abs=1e-6)


def test_an_interrupted_run_continues_bit_identically(tmp_path, rows, whole, interrupt):
    interrupt(5, lambda: train(tmp_path, rows))
    resumed, losses = train(tmp_path, rows)  # from model.ckpt-3
    assert_equal(whole[1], resumed)
    assert losses == whole[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_a_continued_run_is_the_same(tmp_path, rows, whole, monkeypatch, number):
    handler = signal.getsignal(number)
    show = training.Loop._show

    def terminated(self, read, bar, manager):
        show(self, read, bar, manager)
        if read[-1][0] == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(training.Loop, "_show", terminated)
        with pytest.raises(PreemptedError, match=r"stopped at step 5; .*model\.ckpt-5 was saved"):
            train(tmp_path, rows)
    assert signal.getsignal(number) is handler
    resumed, losses = train(tmp_path, rows)
    assert_equal(whole[1], resumed)
    assert losses == whole[2]


def test_a_disk_that_is_too_small_is_told_before_the_first_step(tmp_path, rows, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="this run writes up to .* GB, but only 0.0 GB are free"):
        train(tmp_path, rows)
    assert not list(tmp_path.rglob("model.ckpt*"))


def test_a_finished_run_says_so(tmp_path, rows, whole, capsys):
    shutil.copytree(whole[0], tmp_path / "run")
    again, _ = train(tmp_path / "run", rows)
    assert "already finished" in capsys.readouterr().out
    assert_equal(whole[1], again)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, rows, monkeypatch):
    config = make_config(tmp_path)
    loop = make_loop(config)
    manager = CheckpointManager(config.output_dir)
    check = training.Loop._check_finite

    def poison(self, step, logs, manager):
        if step == 4:
            self.model.get_layer("classifier").output_bias.assign([np.nan, 0.0, 0.0])
        check(self, step, logs, manager)

    monkeypatch.setattr(training.Loop, "_check_finite", poison)
    with pytest.raises(FloatingPointError, match=r"at step 5; .*model\.ckpt-3"):
        loop.train(rows, range(8), 8, 2, manager)
    assert manager.latest().endswith("model.ckpt-3")


def test_tensorboard_scalars(whole):
    folder, _, _ = whole
    steps = list(range(1, 9))
    for name in ("loss", "learning_rate", "gradient_norm", "examples_per_second"):
        assert list(scalars(folder, name)) == steps
    # Warm-up to 1e-3 in two steps, then the line to 0 at the eighth.
    rates = scalars(folder, "learning_rate")
    expected = [5e-4, *(1e-3 * (1 - step / 8) for step in steps[1:])]
    assert [rates[step] for step in steps] == pytest.approx(expected)


def test_checkpoints_hold_googles_names(whole):
    saved = dict(tf.train.list_variables(str(whole[0] / "model.ckpt-3")))
    assert saved["global_step"] == []
    kernel = "bert/encoder/layer_0/attention/self/query/kernel"
    for name in (kernel, f"{kernel}/adam_m", f"{kernel}/adam_v", "output_weights/adam_v"):
        assert name in saved


def test_bfloat16_stays_near(tmp_path, rows, exact):
    _, near = train(tmp_path, rows, dropout=0.0, precision="mixed_bfloat16")
    for step, loss in exact[1].items():
        assert near[step] == pytest.approx(loss, abs=0.05)
