"""The one training loop: train, evaluate and predict for every task, on every strategy.

A task hands over a `keras.Model`, an `Objective` and `Rows` (a `RecordFile`); the loop does the
rest: which rows make a step (a function of seed and step, so that a run can be continued
anywhere), gradients, the optimizer, checkpoints, the progress bar and TensorBoard.
What a step computes is in `train_step.py`, what it is fed in `feeding.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bert_tf import filesystem, memory, optimization, preemption, progress
from bert_tf.batching import Arrays
from bert_tf.checkpoints.training import CheckpointManager, TrainingState
from bert_tf.data.records import Rows
from bert_tf.distribution import Replicas, call, compiles, fetch
from bert_tf.feeding import Feeder
from bert_tf.preemption import PreemptedError
from bert_tf.run_config import TrainingConfig
from bert_tf.schedule import Schedule
from bert_tf.train_step import Objective, Tensors, TrainStep

__all__ = ["Loop", "Objective", "Tensors", "TrainingResult", "TrainingState"]


_WAITING_BATCHES = 8  # that are computed somewhere else at once


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
        self.replicas = Replicas.of(strategy)
        self._on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
        self._compiled = compiles(config) and not self._on_tpu  # a TPU compiles everything
        # Steps that are handed on, to a TPU or to the workers of a parameter server.
        self._ahead = isinstance(strategy, tf.distribute.ParameterServerStrategy)
        self.schedule = Schedule(config, handed_on=self._on_tpu or self._ahead)
        one_hot = config.use_one_hot_embeddings
        model.bert.embeddings.use_one_hot_embeddings = self._on_tpu if one_hot is None else one_hot
        model.bert.encoder.recompute = config.recompute
        self._static = config.pad_to_max_seq_length or self._on_tpu
        self._feeder = self._new_feeder(self._static or self._compiled)
        self._evaluation_feeder = self._new_feeder(self._static)
        self._forward: Callable[[Any], Any] | None = None

    def _new_feeder(self, static: bool) -> Feeder:
        objective = self.objective
        parts = objective.whole, objective.counts_padding
        return Feeder(self.config, self.replicas, static, *parts)

    def _new_step(self, records: Rows, optimizer: optimization.Optimizer) -> TrainStep:
        return TrainStep(
            *(self.config, self.model, self.objective, self.replicas, optimizer, self._compiled),
            self._feeder.signature(records),
        )

    # ------------------------------------------------------------------------------ forward

    def _compile_forward(self, records: Rows) -> Callable[[Any], Any]:
        def replica_step(batch: Tensors) -> Tensors:
            inputs = {tensor.name: batch[tensor.name] for tensor in self.model.inputs}
            results = self.objective.results(self.model(inputs, training=False), batch)
            return self.replicas.all_gather(results)

        def step(parts: list[Tensors]) -> Tensors:
            return self.replicas.first(self.replicas.run(replica_step, parts))

        signature = self._evaluation_feeder.signature(records)
        return tf.function(
            step, input_signature=None if signature is None else [signature], autograph=False
        )

    def forward(
        self, records: Rows, batch_size: int, description: str
    ) -> Iterator[tuple[Arrays, Arrays]]:
        """Yields (batch, results) in file order; padding rows are taken off again."""
        forward = self._forward = self._forward or self._compile_forward(records)
        starts = range(0, len(records), batch_size)
        waiting: deque[tuple[Arrays, Any, Any]] = deque()

        def oldest() -> tuple[Arrays, Arrays]:
            batch, feed, result = waiting.popleft()
            while (found := fetch(result)) is None:  # lost with its worker
                result = call(self.strategy, forward, feed)
            rows = len(batch["input_ids"])
            return batch, {k: np.asarray(v)[:rows] for k, v in found.items()}

        for start in progress.bar(starts, description, unit="batch", leave=None):
            batch = records.batch(np.arange(start, min(start + batch_size, len(records))))
            feed = self._evaluation_feeder.evaluation(batch, batch_size)
            waiting.append((batch, feed, call(self.strategy, forward, feed)))
            if not self._ahead or len(waiting) > _WAITING_BATCHES:
                yield oldest()
        while waiting:
            yield oldest()

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
          evaluate: step -> the metric of the best checkpoint; needed with `--eval_steps`.

        Raises FloatingPointError if the loss is not finite, MemoryError if a step does not fit,
        PreemptedError if SIGTERM or SIGINT came (to one of the workers) and a checkpoint is saved.
        """
        self._check_batch_size()
        state = self._new_state(records, num_train_steps, num_warmup_steps)
        first = self._resume(state, manager, steps)
        due = first > steps.start and self.schedule.evaluates(first, num_train_steps)
        if due and self._ends(manager.latest(), evaluate(first), manager):
            return self._stopped_before(first)
        self._check_space(state, manager, range(first + 1, steps.stop + 1), num_train_steps)
        events = tf.summary.create_file_writer(self.config.output_dir)
        bar = progress.bar(total=steps.stop, initial=first, desc="train", unit="step")
        left, tokens, seconds = range(first, steps.stop), 0, 0.0
        with events.as_default(), bar, manager, preemption.watch() as signals:
            for read in self.steps(records, state.optimizer, left, steps.start, signals):
                self._show(read, bar, manager)
                step, logs = read[-1]
                tokens += (whole := sum(logs["tokens"] for _, logs in read))
                seconds += whole / logs["tokens_per_second"]
                stopping = logs.get("stop", signals.requested)
                due = self.schedule.evaluates(step, num_train_steps)
                if not (due or stopping or self.schedule.saves(step, steps.stop)):
                    continue
                if self._ahead:  # a step whose worker was lost on the way may have been done twice
                    state.optimizer.global_step.assign(step)
                prefix = manager.save(step, state.tensors())
                if stopping:
                    manager.wait()
                    raise PreemptedError(f"Interrupted: stopped at step {step}; {prefix} was saved")
                with signals.at_once():
                    ends = due and self._ends(prefix, evaluate(step), manager)
                if ends:
                    bar.write(self._why_early(step, manager))
                    return TrainingResult(first, step, True, tokens, seconds)
        return TrainingResult(first, max(first, steps.stop), False, tokens, seconds)

    def _check_space(
        self, state: TrainingState, manager: CheckpointManager, steps: range, last: int
    ) -> None:
        """Raises OSError if the disk cannot hold the checkpoints, the final model and exports."""
        schedule = self.schedule
        saving = (n for n in steps if schedule.saves(n, last) or schedule.evaluates(n, last))
        saves = manager.most_new(sum(1 for _ in itertools.islice(saving, 2 + manager.keep)))
        weights = _bytes(self.model.variables)
        needs = {manager.output_dir: saves * _bytes(state.tensors().values()) + weights}
        if export_dir := self.config.export_dir:  # for texts, and for features
            needs[export_dir] = needs.get(export_dir, 0) + 2 * weights
        filesystem.check_space(
            needs if saves else {}, "or give an --output_dir (and --export_dir) on another disk"
        )

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
            loss_scaling=config.precision == "mixed_float16",
            lr_schedule=config.lr_schedule,
        )

    def _new_state(
        self, records: Rows, num_train_steps: int, num_warmup_steps: int
    ) -> TrainingState:
        with self.strategy.scope():
            optimizer = self.optimizer(num_train_steps, num_warmup_steps)
            optimizer.build(self.model.trainable_variables)
        if self.config.auto_batch:
            self._fit_into_memory(records, optimizer)
        return TrainingState(self.model, optimizer)

    def _fit_into_memory(self, records: Rows, optimizer: optimization.Optimizer) -> None:
        """Chooses in how many parts a step is computed; the workers choose the same."""
        config, weights = self.config, self.model.trainable_variables
        rows = config.train_batch_size // self.replicas.count

        def fits(parts: int) -> bool:
            self.config = dataclasses.replace(config, gradient_accumulation_steps=parts)
            self._feeder = self._new_feeder(self._feeder.static)
            print(
                memory.plan(
                    self.model.bert.config,
                    *(sum(math.prod(v.shape) for v in weights), rows, config.max_seq_length, parts),
                    bytes_a_number=4 if config.precision == "float32" else 2,
                    recompute=config.recompute,
                ),
                flush=True,
            )
            try:
                self._new_step(records, optimizer).try_gradients(self._feeder.longest(records))
                fitted = 1
            except tf.errors.ResourceExhaustedError:
                fitted = 0
            return min(self.replicas.each_workers(fitted)) == 1

        memory.fitting_parts(fits, config.gradient_accumulation_steps, rows)

    def _show(
        self, read: list[tuple[int, dict[str, float]]], bar: Any, manager: CheckpointManager
    ) -> None:
        manager.check()
        for step, logs in read:
            if "loss" in logs:
                self._check_finite(step, logs, manager)
                bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
            log_scalars(step, logs)
            bar.update(step - bar.n)

    def _ends(self, prefix: str, score: float, manager: CheckpointManager) -> bool:
        """Whether patience ends the run with this score of this checkpoint."""
        manager.offer_best(prefix, score)
        patience = self.config.early_stopping_patience
        if not patience:
            return False
        since = manager.evaluations_since_best() if self.replicas.is_chief else 0
        return self.replicas.the_chiefs(since) >= patience

    def _stopped_before(self, step: int) -> TrainingResult:
        """Where the run was ended between the checkpoint and its evaluation, or after both."""
        print(f"Training has already stopped early, at step {step}.", flush=True)
        return TrainingResult(step, step, stopped_early=True)

    def _why_early(self, step: int, manager: CheckpointManager) -> str:
        return (
            f"Stopped early at step {step}: {self.config.early_stopping_patience} evaluations "
            f"without a better one than that of {manager.best()}"
        )

    def _check_batch_size(self) -> None:
        size, parts = self.config.train_batch_size, self.config.gradient_accumulation_steps
        count = self.replicas.count
        if size % (count * parts):
            raise ValueError(
                f"--train_batch_size={size} does not divide among {count} replicas and "
                f"--gradient_accumulation_steps={parts}; use a multiple of {count * parts}"
            )

    def _resume(self, state: TrainingState, manager: CheckpointManager, steps: range) -> int:
        step = self._restored_step(state, manager, steps)
        if self.replicas.workers > 1:
            steps_of, checksums = map(self.replicas.each_workers, (step, state.checksum()))
            if len(set(steps_of)) > 1 or len(set(checksums)) > 1:
                raise ValueError(
                    f"the workers do not start alike (steps {steps_of}, checksums of all weights "
                    f"{checksums}); all must see the same --output_dir and --init_checkpoint"
                )
        return step

    def _restored_step(self, state: TrainingState, manager: CheckpointManager, steps: range) -> int:
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
        self,
        records: Rows,
        optimizer: optimization.Optimizer,
        steps: range,
        start: int = 0,
        signals: preemption.Watch | None = None,
    ) -> Iterator[list[tuple[int, dict[str, float]]]]:
        """Runs `steps`; yields those whose losses are read together, as (step done, logs).

        There is no loss in the logs where a worker of a parameter server was lost with it.

        Batches are read while those before them are computed.

        Args:
          start: the step at which the first epoch of these rows begins.
          signals: whether this worker is to stop.
        """
        last, feed, train_step = (
            steps.stop,
            self._feeder.training,
            self._new_step(records, optimizer),
        )
        unread: list[tuple[range, list[int], Any]] = []
        with ThreadPoolExecutor(1) as reader:
            stop = self.schedule.end_of_call(steps.start, last)
            upcoming = reader.submit(feed, records, range(steps.start, stop), start)
            begun, step = time.monotonic(), steps.start
            while step < last:
                (feeds, tokens), first, step = upcoming.result(), step, stop
                if step < last:
                    stop = self.schedule.end_of_call(step, last)
                    upcoming = reader.submit(feed, records, range(step, stop), start)
                wants_to_stop = signals is not None and signals.requested
                result = train_step(feeds, first, wants_to_stop)
                if signals is not None:
                    signals.noting = True  # there is something to save
                unread.append((range(first + 1, step + 1), tokens, result))
                if not (wants_to_stop or self.schedule.reads(step, last)):
                    continue
                read = [
                    (n, {"tokens": t} | {k: float(v) for k, v in logs.items()})
                    for done, tokens, result in unread
                    for n, t, logs in zip(
                        done, tokens, fetch(result) or [{}] * len(done), strict=True
                    )
                ]
                yield self._timed(read, time.monotonic() - begun)
                unread = []
                begun = time.monotonic()  # saving and evaluating are not training

    def _timed(
        self, steps: list[tuple[int, dict[str, float]]], seconds: float
    ) -> list[tuple[int, dict[str, float]]]:
        """Adds to the logs of steps that took so long together how fast they were."""
        examples = len(steps) * self.config.train_batch_size
        whole = sum(logs["tokens"] for _, logs in steps)
        rates = {
            "tokens_per_second": whole / seconds,
            "examples_per_second": examples / seconds,
        }
        return [(step, logs | rates) for step, logs in steps]

    def _check_finite(self, step: int, logs: dict[str, float], manager: CheckpointManager) -> None:
        skipped = logs.get("loss_scale", 1.0) > 1  # it was too large; the weights are as before
        if math.isfinite(logs["loss"]) and (math.isfinite(logs["gradient_norm"]) or skipped):
            return
        good = manager.latest()
        raise FloatingPointError(
            f"the loss is {logs['loss']} and the gradient norm {logs['gradient_norm']} at step "
            f"{step}; training stops. "
            + (f"The last good checkpoint is {good}. " if good else "No checkpoint was written. ")
            + "Try a smaller --learning_rate, or --precision=float32."
        )


def _bytes(variables: Iterable[Any]) -> int:
    return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)


def log_scalars(step: int, values: Mapping[str, float]) -> None:
    """What `tf.summary.scalar` writes, which would need the tensorboard package.

    To the default writer: inside of `Loop.train`, where evaluation is called as well.
    """
    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
    for name, value in values.items():
        tf.summary.write(name, tf.constant(value, tf.float32), step, metadata)
