"""The one training loop: train, evaluate and predict for every task, on every strategy.

A task hands over a `keras.Model`, an `Objective` and a `RecordFile`; the loop does the rest:
which rows make a step (a function of seed and step, so that a run can be continued anywhere),
padding, gradients, the optimizer, checkpoints, the progress bar and TensorBoard.

The loss of a step is a sum of terms, each a numerator over a denominator, both summed over the
whole global batch (for a classifier: cross-entropies over the number of examples). So one replica
and many give the same gradients.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from bert_tf import distribution, modeling, optimization
from bert_tf.batching import Arrays, pad_rows, training_rows, trim_padding
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.data.records import RecordFile
from bert_tf.run_config import RunConfig

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a task minimises and what it shows.

    Attributes:
      denominators: batch -> one float32 scalar a loss term (for example the number of rows).
      numerators: (outputs, batch) -> one float32 scalar a term: the sum of the losses.
      results: (outputs, batch) -> tensors `[B, ...]` that evaluation and prediction collect.
    """

    denominators: Callable[[Tensors], list[tf.Tensor]]
    numerators: Callable[[Tensors, Tensors], list[tf.Tensor]]
    results: Callable[[Tensors, Tensors], Tensors]


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The model and its optimizer: all that a checkpoint holds.

    Variables are saved under Google's names: the model's own, `<name>/adam_m`, `<name>/adam_v`
    and `global_step`.
    """

    model: keras.Model
    optimizer: optimization.Optimizer

    def tensors(self) -> dict[str, Any]:
        weights = {modeling.checkpoint_name(v): v for v in self.model.variables}
        return weights | self.optimizer.slots | {"global_step": self.optimizer.global_step}

    def restore(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
        """Assigns every variable.

        Raises:
          ValueError: `tensors` lacks one of them.
        """
        variables = self.tensors()
        absent = sorted(set(variables) - set(tensors))
        if absent:
            raise ValueError(
                f"{source} cannot be continued: it lacks {len(absent)} variables, "
                f"for example {absent[0]}; start from it with --init_checkpoint instead"
            )
        for name, variable in variables.items():
            variable.assign(tensors[name])


class Loop:
    """Runs one model under one strategy; made by `Loop(config, model, objective, strategy)`."""

    def __init__(
        self,
        config: RunConfig,
        model: keras.Model,
        objective: Objective,
        strategy: tf.distribute.Strategy,
    ):
        self.config = config
        self.model = model
        self.objective = objective
        self.strategy = strategy
        self._on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
        self._static = config.pad_to_max_seq_length or self._on_tpu
        self._forward: Callable[[Any], Any] | None = None

    def _compile(self, step: Callable[[Any], Any], records: RecordFile) -> Callable[[Any], Any]:
        """`step` as a graph; on one device one graph serves batches of every length.

        Which graph computes a batch must depend on nothing that ran before, or a continued run
        would differ in its last bits: so shapes are never relaxed on the way.
        """
        if self._static or self.strategy.num_replicas_in_sync > 1:
            return tf.function(step, autograph=False)
        signature = {
            name: tf.TensorSpec(
                [None, None if feature.shape == [self.config.max_seq_length] else 1],
                tf.int32 if feature.dtype == tf.int64 else feature.dtype,
            )
            for name, feature in records.spec.items()
        }
        return tf.function(step, input_signature=[signature], autograph=False)

    # ------------------------------------------------------------------------------ forward

    def _forward_step(self, batch: Any) -> Any:
        def replica_step(batch: Tensors) -> Tensors:
            return self.objective.results(self._outputs(batch, training=False), batch)

        return self.strategy.run(replica_step, args=(batch,))

    def forward(
        self, records: RecordFile, batch_size: int, description: str
    ) -> Iterator[tuple[Arrays, Arrays]]:
        """Yields (batch, results) in file order; padding rows are taken off again."""
        forward = self._forward = self._forward or self._compile(self._forward_step, records)
        starts = range(0, len(records), batch_size)
        multiple = self.strategy.num_replicas_in_sync
        if self._static:
            multiple = math.lcm(batch_size, multiple)
        for start in tqdm.tqdm(starts, description, unit="batch", dynamic_ncols=True, leave=None):
            batch = records.batch(np.arange(start, min(start + batch_size, len(records))))
            rows = len(batch["input_ids"])
            feed = self._feed(pad_rows(batch, multiple))
            results = distribution.join(self.strategy, forward(feed))
            yield batch, {name: value[:rows] for name, value in results.items()}

    def _outputs(self, batch: Tensors, training: bool) -> Tensors:
        inputs = {tensor.name: batch[tensor.name] for tensor in self.model.inputs}
        return self.model(inputs, training=training)

    def _feed(self, batch: Arrays) -> Any:
        if not self._static:
            batch = trim_padding(batch, self.config.max_seq_length)
        return distribution.split(self.strategy, batch)

    # ----------------------------------------------------------------------------- training

    def train(
        self,
        records: RecordFile,
        num_train_steps: int,
        num_warmup_steps: int,
        manager: CheckpointManager,
        evaluate: Callable[[int], float] | None = None,
    ) -> int:
        """Trains to `num_train_steps`, continuing from the manager's latest checkpoint.

        Args:
          records: training rows; `[B, max_seq_length]` features.
          num_train_steps: steps of the whole run; the learning rate reaches 0 there.
          num_warmup_steps: steps in which the learning rate grows.
          manager: where checkpoints are kept.
          evaluate: step -> the metric of the best checkpoint, called every `--eval_steps`.

        Returns:
          The step that training started from (0, or that of the checkpoint).

        Raises:
          FloatingPointError: the loss is not finite.
        """
        self._check_batch_size()
        with self.strategy.scope():
            optimizer = optimization.create_optimizer(
                self.config.learning_rate, num_train_steps, num_warmup_steps
            )
            optimizer.build(self.model.trainable_variables)
        state = TrainingState(self.model, optimizer)
        first = self._resume(state, manager, num_train_steps)
        if evaluate is not None and first and first % self.config.eval_steps == 0:
            # The run may have been stopped between this checkpoint and its evaluation.
            manager.offer_best(manager.latest(), evaluate(first))
        events = tf.summary.create_file_writer(self.config.output_dir)
        bar = tqdm.tqdm(total=num_train_steps, initial=first, desc="train", dynamic_ncols=True)
        with events.as_default(), bar:
            for step, logs in self.steps(records, optimizer, first, num_train_steps):
                self._check_finite(step, logs, manager)
                self._log(step, logs)
                bar.update(step - bar.n)
                bar.set_postfix(loss=f"{logs['loss']:.4f}")
                due = evaluate is not None and step % self.config.eval_steps == 0
                if due or step == num_train_steps or step % self.config.save_checkpoints_steps == 0:
                    prefix = manager.save(step, state.tensors())
                    if due:
                        manager.offer_best(prefix, evaluate(step))
        return first

    def _check_batch_size(self) -> None:
        size, replicas = self.config.train_batch_size, self.strategy.num_replicas_in_sync
        if size % replicas:
            raise ValueError(
                f"--train_batch_size={size} does not divide among {replicas} replicas; "
                f"use a multiple of {replicas}"
            )

    def _resume(
        self, state: TrainingState, manager: CheckpointManager, num_train_steps: int
    ) -> int:
        latest = manager.restore_latest()
        if latest is None:
            return 0
        prefix, tensors = latest
        state.restore(tensors, prefix)
        step = int(tensors["global_step"])
        if step >= num_train_steps:
            print(f"Training has already finished: {prefix} is at step {step}.", flush=True)
        else:
            print(f"Continuing from {prefix} (step {step} of {num_train_steps}).", flush=True)
        return step

    def steps(
        self,
        records: RecordFile,
        optimizer: optimization.Optimizer,
        first: int,
        last: int,
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """Runs the steps first..last; the next batch is read while the current one computes."""
        train_step = self._compile(self._train_step(optimizer), records)
        unread = []
        with ThreadPoolExecutor(1) as reader:
            upcoming = reader.submit(self._training_batch, records, first)
            begun = time.monotonic()
            for step in range(first, last):
                feed = upcoming.result()
                if step + 1 < last:
                    upcoming = reader.submit(self._training_batch, records, step + 1)
                unread.append((step + 1, train_step(feed)))
                if not self._reads(step + 1, last):
                    continue
                read = [(done, {k: float(v) for k, v in logs.items()}) for done, logs in unread]
                seconds = time.monotonic() - begun
                rate = len(unread) * self.config.train_batch_size / seconds
                unread = []
                for done, logs in read:
                    yield done, logs | {"examples_per_second": rate}
                begun = time.monotonic()  # saving and evaluating are not training

    def _reads(self, step: int, last: int) -> bool:
        """Whether the losses are read after this step: on a TPU that waits for the device."""
        config = self.config
        points = [config.iterations_per_loop, config.save_checkpoints_steps, config.eval_steps]
        return not self._on_tpu or step == last or any(n and step % n == 0 for n in points)

    def _training_batch(self, records: RecordFile, step: int) -> Any:
        config = self.config
        rows = training_rows(step, config.train_batch_size, len(records), config.random_seed)
        return self._feed(records.batch(rows))

    def _train_step(self, optimizer: optimization.Optimizer) -> Callable[[Any], Tensors]:
        variables = self.model.trainable_variables
        replicas = self.strategy.num_replicas_in_sync

        def all_reduce(values: list[tf.Tensor]) -> list[tf.Tensor]:
            if replicas == 1:
                return values
            return tf.distribute.get_replica_context().all_reduce("SUM", values)

        def replica_step(batch: Tensors) -> Tensors:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            position = optimizer.global_step * replicas + tf.cast(replica, tf.int64)
            learning_rate = optimizer.learning_rate
            denominators = all_reduce(self.objective.denominators(batch))
            seed = tf.stack([self.config.random_seed, tf.cast(position, tf.int32)])
            with modeling.dropout_seed(seed), tf.GradientTape() as tape:
                outputs = self._outputs(batch, training=True)
                numerators = self.objective.numerators(outputs, batch)
                loss = tf.add_n([n / d for n, d in zip(numerators, denominators, strict=True)])
            gradients = all_reduce(tape.gradient(loss, variables))
            norm = optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return {"loss": loss, "gradient_norm": norm, "learning_rate": learning_rate}

        def train_step(batch: Any) -> Tensors:
            outputs = self.strategy.run(replica_step, args=(batch,))
            reduced = {
                name: self.strategy.experimental_local_results(value)[0]
                for name, value in outputs.items()
            }
            reduced["loss"] = self.strategy.reduce("SUM", outputs["loss"], axis=None)
            return reduced

        return train_step

    def _check_finite(self, step: int, logs: dict[str, float], manager: CheckpointManager) -> None:
        if math.isfinite(logs["loss"]) and math.isfinite(logs["gradient_norm"]):
            return
        good = manager.latest()
        raise FloatingPointError(
            f"the loss is {logs['loss']} and the gradient norm {logs['gradient_norm']} at step "
            f"{step}; training stops. "
            + (f"The last good checkpoint is {good}. " if good else "No checkpoint was written. ")
            + "Try a smaller --learning_rate, or --precision=float32."
        )

    def _log(self, step: int, logs: dict[str, float]) -> None:
        """What `tf.summary.scalar` writes, which would need the tensorboard package."""
        metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        for name, value in logs.items():
            tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
