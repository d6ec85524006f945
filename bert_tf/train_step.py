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
from bert_tf.run_config import TrainingConfig

Tensors = dict[str, tf.Tensor]
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

    Args:
      signature: the features of a batch where one graph serves every length; None where shapes
        are static or there are several replicas, so that each has a graph of its own.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: keras.Model,
        objective: Objective,
        strategy: tf.distribute.Strategy,
        optimizer: optimization.Optimizer,
        signature: dict[str, tf.TensorSpec] | None,
    ):
        self._config = config
        self._model = model
        self._objective = objective
        self._strategy = strategy
        self._optimizer = optimizer
        self._signature = signature
        self._replicas = strategy.num_replicas_in_sync
        self._variables = model.trainable_variables
        self._graphs: dict[int, Callable[..., list[Tensors]]] = {}
        self._part = self._gradients_of_part
        if self._replicas == 1 and config.gradient_accumulation_steps > 1:
            # Traced once, called for each part. (With several replicas, each of them traces its
            # own: a function would bring the variables of the first one to all.)
            self._part = tf.function(self._part, autograph=False)

    def __call__(self, batches: Sequence[Any]) -> list[Tensors]:
        """Takes one step for each batch, in order, in one call of a graph.

        Args:
          batches: features `[B, ...]`, per-replica where there are several replicas.

        Returns:
          For each: scalars `loss`, `gradient_norm` and `learning_rate`.
        """
        count = len(batches)
        if count not in self._graphs:
            self._graphs[count] = self._compile(count)
        return self._graphs[count](list(batches))

    def _compile(self, count: int) -> Callable[..., list[Tensors]]:
        step = self._step
        if count > 1 and self._replicas == 1:  # traced once, called for each step
            signature = None if self._signature is None else [self._signature]
            step = tf.function(step, input_signature=signature, autograph=False)

        def steps(batches: list[Any]) -> list[Tensors]:
            return [step(batch) for batch in batches]

        signature = None if self._signature is None else [[self._signature] * count]
        compile_all = self._config.use_xla or None
        return tf.function(
            steps, input_signature=signature, autograph=False, jit_compile=compile_all
        )

    def _step(self, batch: Any) -> Tensors:
        outputs = self._strategy.run(self._replica_step, args=(batch,))
        reduced = {
            name: self._strategy.experimental_local_results(value)[0]
            for name, value in outputs.items()
        }
        reduced["loss"] = self._strategy.reduce("SUM", outputs["loss"], axis=None)
        return reduced

    def _replica_step(self, batch: Tensors) -> Tensors:
        optimizer, seed = self._optimizer, self._config.random_seed
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        position = optimizer.global_step * self._replicas + tf.cast(replica, tf.int64)
        learning_rate = optimizer.learning_rate
        denominators = self._all_reduce(self._objective.denominators(batch))
        seed = tf.stack([seed, tf.cast(position, tf.int32)])
        loss, gradients = self._gradients(batch, denominators, seed)
        gradients = self._all_reduce(gradients)
        norm = optimizer.apply_gradients(zip(gradients, self._variables, strict=True))
        return {"loss": loss, "gradient_norm": norm, "learning_rate": learning_rate}

    def _all_reduce(self, values: list[Any]) -> list[Any]:
        if self._replicas == 1:
            return values
        return tf.distribute.get_replica_context().all_reduce("SUM", values)

    def _gradients(
        self, batch: Tensors, denominators: list[tf.Tensor], seed: tf.Tensor
    ) -> tuple[tf.Tensor, Gradients]:
        """Loss and gradients of this replica's rows, one part after another."""
        count = self._config.gradient_accumulation_steps
        if count == 1:
            return self._part(batch, denominators, seed)
        parts = {name: tf.split(value, count) for name, value in batch.items()}
        loss, sums = tf.constant(0.0), None
        for number in range(count):
            part = {name: values[number] for name, values in parts.items()}
            part_seed = tf.random.experimental.stateless_fold_in(seed, number)
            # Not before the last one is done: only one part's activations are in memory.
            with tf.control_dependencies([loss]):
                part = {name: tf.identity(value) for name, value in part.items()}
            part_loss, gradients = self._part(part, denominators, part_seed)
            sums = gradients if sums is None else list(map(_add, sums, gradients))
            # The loss is there when all sums are.
            tensors = tf.nest.flatten(sums, expand_composites=True)
            with tf.control_dependencies([x for x in tensors if x is not None]):
                loss = loss + part_loss
        return loss, sums

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
