"""A whole training step of every head as one XLA program with static shapes: what a TPU runs."""

import dataclasses

import pytest
from step_cases import CASES, CONFIG, LENGTH, RandomRows

from bert_tf import distribution, training
from bert_tf.batching import training_rows
from bert_tf.run_config import RunConfig


@pytest.mark.parametrize("name", CASES)
def test_a_whole_step_compiles(tmp_path, name):
    """`jit_compile` takes no string, no op of TF.Text, no call of Python: the loss to 1e-5."""
    model_of, objective_of, spec = CASES[name]
    config = RunConfig(
        output_dir=str(tmp_path),
        max_seq_length=LENGTH,
        train_batch_size=4,
        use_xla=True,
        use_one_hot_embeddings=True,
    )
    bert_config = dataclasses.replace(
        CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model, objective, rows = model_of(bert_config), objective_of(), RandomRows(spec)
    loop = training.Loop(config, model, objective, distribution.create_strategy(config))
    optimizer = loop.optimizer(10, 1)
    optimizer.build(model.trainable_variables)
    batch = rows.batch(training_rows(0, 4, len(rows), config.random_seed)[0])
    terms = zip(
        objective.numerators(model({t.name: batch[t.name] for t in model.inputs}), batch),
        objective.denominators(batch),
        strict=True,
    )
    loss = sum(float(numerator / denominator) for numerator, denominator in terms)
    (((_, logs),),) = loop.steps(rows, optimizer, range(1))
    assert logs["loss"] == pytest.approx(loss, abs=1e-5)
    assert logs["gradient_norm"] > 0 and int(optimizer.global_step) == 1
