"""The one training loop: train, evaluate and predict for every task, on every strategy.

A task hands over a `keras.Model`, an `Objective` and `Rows` (a `RecordFile`); the loop does the
rest: which rows make a step (a function of seed and step, so that a run can be continued
anywhere), padding, gradients, the optimizer, checkpoints, the progress bar and TensorBoard.
What a step computes is in `train_step.py`.
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

from bert_tf import distribution, modeling, optimization, preemption, progress
from bert_tf.batching import Arrays, pad_rows, training_rows, trim_padding
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.data.records import Rows
from bert_tf.run_config import TrainingConfig
from bert_tf.train_step import Objective, Tensors, TrainStep

__all__ = ["Loop", "Objective", "Tensors", "TrainingResult", "TrainingState"]


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a call of `Loop.train` did.

    Attributes:
      first_step, last_step: it went from here to there.
      stopped_early: whether patience ended it.
      tokens: pieces in the rows of these steps, padding not counted.
      seconds: what the steps took; saving and evaluating are not counted.
    """

    first_step: int
    last_step: int
    stopped_early: bool = False
    tokens: int = dataclasses.field(default=0, compare=False)
    seconds: float = dataclasses.field(default=0.0, compare=False)


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
    """Runs one model under one strategy.

    `rate_scale` says, by checkpoint name, what share of the learning rate a variable gets, or how
    many times it; `--layerwise_lr_decay` comes on top.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: keras.Model,
        objective: Objective,
        strategy: tf.distribute.Strategy,
        rate_scale: Callable[[str], float] | None = None,
    ):
        self.config = config
        self.model = model
        self.objective = objective
        self.rate_scale = rate_scale
        self.strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        self._on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
        # A compiler makes a program for each shape: there, one shape serves all.
        self._static = config.pad_to_max_seq_length or self._on_tpu or config.use_xla
        self._forward: Callable[[Any], Any] | None = None
        if config.use_xla and self._replicas > 1:
            raise ValueError(
                f"--use_xla compiles the step of one device, and here are {self._replicas}; "
                "leave it out, or use --distribution_strategy=one_device"
            )

    def _signature(self, records: Rows) -> dict[str, tf.TensorSpec] | None:
        """The features of a batch of any length, where one graph serves all; else None.

        Which graph computes a batch must depend on nothing that ran before, or a continued run
        would differ in its last bits: so shapes are never relaxed on the way.
        """
        if self._static or self._replicas > 1:
            return None
        return {
            name: tf.TensorSpec(
                [None, *self._free_lengths(name, feature.shape)],
                tf.int32 if feature.dtype == tf.int64 else feature.dtype,
            )
            for name, feature in records.spec.items()
        }

    # ------------------------------------------------------------------------------ forward

    def _free_lengths(self, name: str, shape: list[int]) -> list[int | None]:
        whole = name in self.objective.whole
        return [None if n == self.config.max_seq_length and not whole else n for n in shape]

    def _compile_forward(self, records: Rows) -> Callable[[Any], Any]:
        def replica_step(batch: Tensors) -> Tensors:
            inputs = {tensor.name: batch[tensor.name] for tensor in self.model.inputs}
            return self.objective.results(self.model(inputs, training=False), batch)

        def step(batch: Any) -> Any:
            return self.strategy.run(replica_step, args=(batch,))

        signature = self._signature(records)
        return tf.function(
            step, input_signature=None if signature is None else [signature], autograph=False
        )

    def forward(
        self, records: Rows, batch_size: int, description: str
    ) -> Iterator[tuple[Arrays, Arrays]]:
        """Yields (batch, results) in file order; padding rows are taken off again."""
        forward = self._forward = self._forward or self._compile_forward(records)
        starts = range(0, len(records), batch_size)
        multiple = self._replicas
        if self._static:
            multiple = math.lcm(batch_size, multiple)
        for start in progress.bar(starts, description, unit="batch", leave=None):
            batch = records.batch(np.arange(start, min(start + batch_size, len(records))))
            rows = len(batch["input_ids"])
            feed = self._feed(pad_rows(batch, multiple), trim=not self._static)
            results = distribution.join(self.strategy, forward(feed))
            yield batch, {name: value[:rows] for name, value in results.items()}

    def _feed(self, batch: Arrays, trim: bool) -> Any:
        if trim:
            batch = trim_padding(batch, self.config.max_seq_length, self.objective.whole)
        return distribution.split(self.strategy, batch)

    # ----------------------------------------------------------------------------- training

    def train(
        self,
        records: Rows,
        steps: range,
        num_train_steps: int,
        num_warmup_steps: int,
        manager: CheckpointManager,
        evaluate: Callable[[int], float] | None = None,
    ) -> TrainingResult:
        """Does the steps that are still to be done, from the manager's latest checkpoint on.

        Args:
          records: training rows; `[B, max_seq_length]` features.
          steps: those on these rows: all, or a phase of the run.
          num_train_steps: of the whole run, after which the learning rate is 0.
          num_warmup_steps: steps in which the learning rate grows.
          evaluate: step -> the metric of the best checkpoint, called every `--eval_steps`.

        Raises FloatingPointError if the loss is not finite, PreemptedError if SIGTERM came; a
        checkpoint has been written then.
        """
        self._check_batch_size()
        with self.strategy.scope():
            optimizer = self.optimizer(num_train_steps, num_warmup_steps)
            optimizer.build(self.model.trainable_variables)
        first = self._resume(TrainingState(self.model, optimizer), manager, steps)
        if evaluate and first > steps.start and self._evaluates(first, num_train_steps):
            manager.offer_best(manager.latest(), evaluate(first))
            if self._out_of_patience(manager):
                return self._stopped_before(first)
        events = tf.summary.create_file_writer(self.config.output_dir)
        bar = progress.bar(total=steps.stop, initial=first, desc="train", unit="step")
        tokens, seconds = 0, 0.0
        with events.as_default(), bar, preemption.watch() as signals:
            for step, logs in self.steps(records, optimizer, range(first, steps.stop), steps.start):
                self._check_finite(step, logs, manager)
                self._show(bar, step, logs)
                tokens += logs["tokens"]
                seconds += logs["tokens"] / logs["tokens_per_second"]
                due = evaluate is not None and self._evaluates(step, num_train_steps)
                if not (due or signals.requested or self._saves(step, steps)):
                    continue
                prefix = manager.save(step, TrainingState(self.model, optimizer).tensors())
                signals.stop_if_requested(f"stopped at step {step}; {prefix} was saved")
                if due:
                    manager.offer_best(prefix, evaluate(step))
                    if self._out_of_patience(manager):
                        bar.write(self._why_early(step, manager))
                        return TrainingResult(first, step, True, tokens, seconds)
        return TrainingResult(first, max(first, steps.stop), False, tokens, seconds)

    def optimizer(self, num_train_steps: int, num_warmup_steps: int) -> optimization.Optimizer:
        """What the flags say; call it inside `strategy.scope()`."""
        config, layers = self.config, self.model.bert.config.num_hidden_layers
        scales = [] if self.rate_scale is None else [self.rate_scale]
        if config.layerwise_lr_decay != 1:
            decay = config.layerwise_lr_decay
            scales.append(lambda name: optimization.layerwise_scale(name, decay, layers))
        return optimization.create_optimizer(
            config.learning_rate,
            num_train_steps,
            num_warmup_steps,
            config.optimizer,
            lambda name: math.prod(scale(name) for scale in scales),
        )

    def _show(self, bar: Any, step: int, logs: Mapping[str, float]) -> None:
        log_scalars(step, logs)
        bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
        bar.update(step - bar.n)

    def _saves(self, step: int, steps: range) -> bool:
        return step == steps.stop or step % self.config.save_checkpoints_steps == 0

    def _evaluates(self, step: int, last: int) -> bool:
        """Every `--eval_steps`, and at the end."""
        return step == last or step % self.config.eval_steps == 0

    def _out_of_patience(self, manager: CheckpointManager) -> bool:
        patience = self.config.early_stopping_patience
        return bool(patience) and manager.evaluations_since_best() >= patience

    def _stopped_before(self, step: int) -> TrainingResult:
        """Where the run was ended between the checkpoint and its evaluation, or after both."""
        print(f"Training has already stopped early, at step {step}.", flush=True)
        return TrainingResult(step, step, stopped_early=True)

    def _why_early(self, step: int, manager: CheckpointManager) -> str:
        return (
            f"Stopped early at step {step}: {manager.evaluations_since_best()} evaluations without "
            f"a better one than that of {manager.best()}"
        )

    def _check_batch_size(self) -> None:
        size, parts = self.config.train_batch_size, self.config.gradient_accumulation_steps
        if size % (self._replicas * parts):
            raise ValueError(
                f"--train_batch_size={size} does not divide among {self._replicas} replicas and "
                f"--gradient_accumulation_steps={parts}; use a multiple of {self._replicas * parts}"
            )

    def _resume(self, state: TrainingState, manager: CheckpointManager, steps: range) -> int:
        latest = manager.restore_latest()
        if latest is None:
            return 0
        prefix, tensors = latest
        state.restore(tensors, prefix)
        step = int(tensors["global_step"])
        if step >= steps.stop:
            print(f"Training has already finished: {prefix} is at step {step}.", flush=True)
        elif step > steps.start:
            print(f"Continuing from {prefix} (step {step} of {steps.stop}).", flush=True)
        return step

    def steps(
        self, records: Rows, optimizer: optimization.Optimizer, steps: range, start: int = 0
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """Runs `steps`, as (step done, logs); the next batches are read while these compute.

        Args:
          start: the step at which the first epoch of these rows begins.
        """
        last = steps.stop
        train_step = TrainStep(
            self.config,
            self.model,
            self.objective,
            self.strategy,
            optimizer,
            self._signature(records),
        )
        unread: list[tuple[int, int, Tensors]] = []
        with ThreadPoolExecutor(1) as reader:
            stop = self._stop(steps.start, last)
            upcoming = reader.submit(
                self._training_batches, records, range(steps.start, stop), start
            )
            begun, step = time.monotonic(), steps.start
            while step < last:
                (feeds, tokens), step = upcoming.result(), stop
                if step < last:
                    stop = self._stop(step, last)
                    upcoming = reader.submit(
                        self._training_batches, records, range(step, stop), start
                    )
                done = range(step - len(feeds) + 1, step + 1)
                unread += zip(done, tokens, train_step(feeds), strict=True)
                if not self._reads(step, last):
                    continue
                read = [(n, t, {k: float(v) for k, v in logs.items()}) for n, t, logs in unread]
                yield from self._timed(read, time.monotonic() - begun)
                unread = []
                begun = time.monotonic()  # saving and evaluating are not training

    def _timed(
        self, steps: list[tuple[int, int, dict[str, float]]], seconds: float
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, tokens, logs) of steps that took so long together -> (step, logs with rates)."""
        examples = len(steps) * self.config.train_batch_size
        whole = sum(tokens for _, tokens, _ in steps)
        for step, tokens, logs in steps:
            logs["tokens"] = tokens
            logs["tokens_per_second"] = whole / seconds
            logs["examples_per_second"] = examples / seconds
            yield step, logs

    def _stop(self, step: int, last: int) -> int:
        """The step up to which one call of the graph goes: where something is to be done, at most.

        A function of the step alone, so that a continued run makes the same calls.
        """
        config = self.config
        points = (config.steps_per_execution, config.save_checkpoints_steps, config.eval_steps)
        return min(last, *((step // n + 1) * n for n in points if n))

    def _reads(self, step: int, last: int) -> bool:
        """Whether the losses are read after this step: on a TPU that waits for the device."""
        config = self.config
        points = [config.iterations_per_loop, config.save_checkpoints_steps, config.eval_steps]
        return not self._on_tpu or step == last or any(n and step % n == 0 for n in points)

    def _training_batches(
        self, records: Rows, steps: range, start: int
    ) -> tuple[list[Any], list[int]]:
        """What the steps are fed, and how many pieces of text there are in each."""
        config = self.config
        trim = not (self._static or self.objective.counts_padding)
        multiple = self._replicas * config.gradient_accumulation_steps
        feeds, tokens = [], []
        for step in steps:
            batch = records.batch(
                *training_rows(
                    step - start, config.train_batch_size, len(records), config.random_seed
                )
            )
            tokens.append(int(np.count_nonzero(batch["input_mask"])))
            feeds.append(self._feed(pad_rows(batch, multiple), trim))
        return feeds, tokens

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


def log_scalars(step: int, values: Mapping[str, float]) -> None:
    """What `tf.summary.scalar` writes, which would need the tensorboard package.

    To the default writer: inside of `Loop.train`, where evaluation is called as well.
    """
    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
    for name, value in values.items():
        tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
