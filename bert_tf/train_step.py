"""One step of training as a graph: the gradient of a batch, in one part or several, the update.

The loss of a step is a sum of terms, each a numerator over a denominator, both summed over the
whole global batch (for a classifier: cross-entropies over the number of examples). So one replica
and many, one part and many, give the same gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from bert_tf import modeling, optimization
from bert_tf.distribution import Replicas, Tensors, call, fetch
from bert_tf.feeding import Signature
from bert_tf.run_config import TrainingConfig

Gradients = list[tf.Tensor | tf.IndexedSlices | None]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a task minimises and what it shows.

    Attributes:
      denominators: batch -> one float32 scalar a loss term (for example the number of rows).
      numerators: (outputs, batch) -> one float32 scalar a term: the sum of the losses.
      results: (outputs, batch) -> tensors `[B, ...]` that evaluation and prediction collect.
      whole: features that are not a value a position, even if they are as long as a row.
      counts_padding: whether the loss depends on how far rows are padded; rows to train on are then
        as long as they are in their file.
    """

    denominators: Callable[[Tensors], list[tf.Tensor]]
    numerators: Callable[[Tensors, Tensors], list[tf.Tensor]]
    results: Callable[[Tensors, Tensors], Tensors]
    whole: frozenset[str] = frozenset()
    counts_padding: bool = False


class TrainStep:
    """Steps of one model, compiled: a list of batches in, a step for each, its logs out.

    With XLA it is the whole step of one device that is compiled, or the gradients of each of
    several.

    Args:
      compiled: whether XLA compiles it.
      signature: the features of a batch where one graph serves every length; None where shapes
        are static, so that each has a graph of its own.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: keras.Model,
        objective: Objective,
        replicas: Replicas,
        optimizer: optimization.Optimizer,
        compiled: bool,
        signature: Signature | None,
    ):
        self._config = config
        self._model = model
        self._objective = objective
        self._replicas = replicas
        self._optimizer = optimizer
        self._signature = signature
        self._compiled = compiled
        self._on_tpu = isinstance(replicas.strategy, tf.distribute.TPUStrategy)
        self._variables = model.trainable_variables
        self._graphs: dict[int, Callable[..., list[Tensors]]] = {}
        self._parts: dict[int, Callable[..., Any]] = {}

    def __call__(self, batches: Sequence[list[Tensors]], first: int, stop: bool = False) -> Any:
        """Takes one step for each batch, in order, in one call of a graph.

        Args:
          batches: for each step features `[B, ...]` for each replica of this process.
          first: the number of the first of these steps, from 0: dropout depends on it.
          stop: whether this worker wants to stop.

        Returns:
          What `distribution.fetch` makes a list of: for each step scalars `loss`,
          `gradient_norm` and `learning_rate`; with float16 `loss_scale`; with several workers
          `stop`: how many of them want to, and `tokens`: how many pieces all of them have.

        Raises:
          MemoryError: it does not fit.
        """
        count = len(batches)
        if count not in self._graphs:
            self._graphs[count] = self._compile(count)
        numbers = tf.constant(first, tf.int64), tf.constant(int(stop))
        try:
            return call(self._replicas.strategy, self._graphs[count], list(batches), *numbers)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(
                f"step {first + 1} does not fit into memory; give --auto_batch, --recompute, a "
                "greater --gradient_accumulation_steps than "
                f"{self._config.gradient_accumulation_steps}, or a smaller --train_batch_size"
            ) from error

    def try_gradients(self, parts: list[Tensors]) -> None:
        """Computes the gradients of a batch and forgets them: whether they fit into memory.

        Raises tf.errors.ResourceExhaustedError if they do not.
        """

        def replica_step(batch: Tensors) -> Tensors:
            denominators = [tf.maximum(x, 1.0) for x in self._objective.denominators(batch)]
            seed = tf.zeros([2], tf.int32)
            _, gradients = self._gradients(batch, denominators, seed)
            return {"norm": tf.linalg.global_norm([x for x in gradients if x is not None])}

        run = tf.function(
            lambda parts: self._replicas.first(self._replicas.run(replica_step, parts)),
            autograph=False,
        )
        fetch(call(self._replicas.strategy, run, parts))

    def _compile(self, count: int) -> Callable[..., list[Tensors]]:
        step, numbers = self._step, [tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int32)]
        one_device = self._replicas.count == 1
        if count > 1 and one_device:  # traced once, called for each step
            signature = None if self._signature is None else [self._signature, *numbers]
            step = tf.function(step, input_signature=signature, autograph=False)

        def steps(batches: list[Any], first: tf.Tensor, stop: tf.Tensor) -> list[Tensors]:
            return [step(batch, first + i, stop) for i, batch in enumerate(batches)]

        signature = None if self._signature is None else [[self._signature] * count, *numbers]
        compile_all = (self._compiled and one_device) or None
        return tf.function(
            steps, input_signature=signature, autograph=False, jit_compile=compile_all
        )

    def _step(self, parts: list[Tensors], number: tf.Tensor, stop: tf.Tensor) -> Tensors:
        outputs = self._replicas.run(self._replica_step, parts, number, stop)
        return self._replicas.first(outputs)

    def _replica_step(self, batch: Tensors, number: tf.Tensor, stop: tf.Tensor) -> Tensors:
        optimizer, replicas = self._optimizer, self._replicas
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        position = number * replicas.count + tf.cast(replica, tf.int64)
        learning_rate = optimizer.learning_rate
        denominators = replicas.all_reduce(self._objective.denominators(batch))
        scale = optimizer.loss_scale  # which the loss is multiplied by, as float16 is coarse
        scaled = [x / scale for x in denominators]
        seed = tf.stack([self._config.random_seed, tf.cast(position, tf.int32)])
        loss, gradients = self._gradients(batch, scaled, seed)
        sums = {"loss": loss / scale}
        if replicas.workers > 1:
            share = 1.0 / replicas.local  # each worker is asked once, not each replica
            sums["stop"] = share * tf.cast(stop, tf.float32)
            sums["tokens"] = tf.cast(tf.math.count_nonzero(batch["input_mask"]), tf.float32)
        gradients, squares = self._summed(gradients)
        sums = dict(zip(sums, replicas.all_reduce(list(sums.values())), strict=True))
        pairs = zip(gradients, self._variables, strict=True)
        norm = optimizer.apply_gradients(pairs, squares)
        logs = sums | {"gradient_norm": norm, "learning_rate": learning_rate}
        return logs | ({"loss_scale": scale} if tf.is_tensor(scale) else {})

    def _summed(self, gradients: Gradients) -> tuple[Gradients, list[tf.Tensor] | None]:
        """The gradients of all replicas, and the squares of the norms that clipping counts.

        It counts each token's row of the word embeddings by itself. The rows of all replicas are
        gathered only while they are fewer than what summing the whole matrix would send; else each
        replica adds up its own before, and the sum of the squares of the rows is what is needed of
        them. The choice is one for the whole run, the same on every worker.
        """
        replicas, config = self._replicas, self._config
        rows = config.train_batch_size * config.max_seq_length
        tables = [
            (gradient, variable)
            for gradient, variable in zip(gradients, self._variables, strict=True)
            if isinstance(gradient, tf.IndexedSlices)
        ]
        if replicas.count == 1 or all(rows < 2 * v.shape[0] for _, v in tables):
            return replicas.all_reduce(gradients), None
        squares = [tf.reduce_sum(tf.square(table.values)) for table, _ in tables]
        dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
        dense, squares = replicas.all_reduce(dense), replicas.all_reduce(squares)
        others = [
            tf.reduce_sum(tf.square(new))
            for old, new in zip(gradients, dense, strict=True)
            if old is not None and not isinstance(old, tf.IndexedSlices)
        ]
        return dense, squares + others

    def _gradients(
        self, batch: Tensors, denominators: list[tf.Tensor], seed: tf.Tensor
    ) -> tuple[tf.Tensor, Gradients]:
        """Loss and gradients of this replica's rows, one part after another."""
        count = self._config.gradient_accumulation_steps
        compute = self._of_part()
        if count == 1:
            return compute(batch, denominators, seed)
        parts = {name: tf.split(value, count) for name, value in batch.items()}
        loss, sums = tf.constant(0.0), None
        for number in range(count):
            part = {name: values[number] for name, values in parts.items()}
            part_seed = tf.random.experimental.stateless_fold_in(seed, number)
            # Not before the last one is done: only one part's activations are in memory.
            with tf.control_dependencies([loss]):
                part = {name: tf.identity(value) for name, value in part.items()}
            part_loss, gradients = compute(part, denominators, part_seed)
            sums = gradients if sums is None else list(map(_add, sums, gradients))
            # The loss is there when all sums are.
            tensors = tf.nest.flatten(sums, expand_composites=True)
            with tf.control_dependencies([x for x in tensors if x is not None]):
                loss = loss + part_loss
        return loss, sums

    def _of_part(self) -> Callable[..., tuple[tf.Tensor, Gradients]]:
        """`_gradients_of_part`, where it helps as a graph of its own: one for each replica.

        (A graph that several replicas shared would bring the variables of the first to all.)
        """
        several = self._replicas.count > 1
        compiled = self._compiled and several
        one_part = self._config.gradient_accumulation_steps == 1
        if not compiled and (several or one_part or self._on_tpu):
            return self._gradients_of_part
        context = tf.distribute.get_replica_context()
        replica = int(tf.get_static_value(context.replica_id_in_sync_group))
        if replica not in self._parts:
            self._parts[replica] = tf.function(
                self._gradients_of_part, autograph=False, jit_compile=compiled or None
            )
        return self._parts[replica]

    def _gradients_of_part(
        self, batch: Tensors, denominators: list[tf.Tensor], seed: tf.Tensor
    ) -> tuple[tf.Tensor, Gradients]:
        with modeling.dropout_seed(seed), tf.GradientTape() as tape:
            inputs = {tensor.name: batch[tensor.name] for tensor in self._model.inputs}
            outputs = self._model(inputs, training=True)
            numerators = self._objective.numerators(outputs, batch)
            loss = tf.add_n([n / d for n, d in zip(numerators, denominators, strict=True)])
        return loss, tape.gradient(loss, self._variables)


def _add(a: Any, b: Any) -> Any:
    """The sum of two gradients. Rows of an embedding are put one behind the other.

    The optimizer's norm counts the row of each token, as in Google's code.
    """
    if a is None:
        return None
    if isinstance(a, tf.IndexedSlices):
        values, indices = tf.concat([a.values, b.values], 0), tf.concat([a.indices, b.indices], 0)
        return tf.IndexedSlices(values, indices, a.dense_shape)
    return a + b
