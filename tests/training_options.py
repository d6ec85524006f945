"""What every program must do with the options of training, whatever its task."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bert_tf.reporting.events import read_scalars

# Stops early at step 9, for with so small a rate no answer changes; step 3 was the best.
FLAGS = {
    "do_train": True,
    "do_eval": True,
    "do_predict": True,
    "num_train_epochs": 4,
    "learning_rate": 1e-6,
    "precision": "mixed_bfloat16",
    "eval_steps": 3,
    "early_stopping_patience": 2,
    "save_checkpoints_steps": 2,
}
STEPS = list(range(1, 10))


def check(run, folder, files, interrupt, capsys):
    """Of a program with FLAGS and --gradient_accumulation_steps.

    Args:
      run: runs it in a folder; returns what it wrote.
      folder: where to.
      files: names of results that an interrupted run must have, byte for byte.
      interrupt: the fixture.
    """
    whole = run(folder / "whole")
    metrics = whole["metrics"]
    assert (metrics["train"]["stopped_early"], metrics["train"]["last_step"]) == (True, 9)
    assert metrics["best_checkpoint"] == str(folder / "whole" / "model.ckpt-3")
    assert metrics["global_step"] == 3
    curves = read_scalars(str(folder / "whole"))
    assert list(curves["loss"]) == list(curves["learning_rate"]) == STEPS
    assert list(curves["dev/f1"]) == [3, 6, 9]
    assert curves["dev/f1"][3] == pytest.approx(metrics["eval"]["f1"])

    interrupt(5, lambda: run(folder / "cut"))
    capsys.readouterr()
    cut = run(folder / "cut")
    assert "Continuing from" in capsys.readouterr().out
    assert (cut["metrics"]["train"]["first_step"], cut["metrics"]["train"]["last_step"]) == (4, 9)
    for name in files:
        assert Path(cut[name]).read_bytes() == Path(whole[name]).read_bytes(), name
    assert read_scalars(str(folder / "cut"))["loss"] == curves["loss"]
    last = [tf.train.load_checkpoint(str(folder / n / "model.ckpt-9")) for n in ("whole", "cut")]
    for name in last[0].get_variable_to_shape_map():
        assert np.array_equal(*(reader.get_tensor(name) for reader in last)), name
