"""Google's optimizer for `model.compile`: the numbers of `optimization`, as a Keras optimizer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from bert_tf.modeling import checkpoint_name
from bert_tf.optimization import CLIP_NORM, LR_SCHEDULES, OPTIMIZERS, WEIGHT_DECAY, decayed


@keras.saving.register_keras_serializable("bert_tf")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of Keras's iterations 0, 1, ..., which are the steps 1, 2, ...

    Args: as `optimization.create_optimizer`.
    """

    def __init__(
        self,
        learning_rate: float,
        num_train_steps: int,
        num_warmup_steps: int,
        lr_schedule: str = "google",
    ):
        self._config = {
            "learning_rate": learning_rate,
            "num_train_steps": num_train_steps,
            "num_warmup_steps": num_warmup_steps,
            "lr_schedule": lr_schedule,
        }
        self._rate = LR_SCHEDULES[lr_schedule]

    def __call__(self, step):
        rate, steps, warmup, _ = self._config.values()
        return self._rate(tf.cast(step, tf.float32) + 1, rate, steps, warmup)

    def get_config(self) -> dict[str, Any]:
        return self._config


@keras.saving.register_keras_serializable("bert_tf")
class KerasOptimizer(keras.optimizers.Optimizer):
    """One of `optimization.OPTIMIZERS` with clipping and decay, for models without a strategy.

    Args:
      learning_rate: a `Schedule`, or a number.
      rule: a key of `OPTIMIZERS`.
    """

    def __init__(self, learning_rate, rule: str = "adamw", name: str = "bert_adam", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        self.rule = rule

    def build(self, variables):
        super().build(variables)
        self._moments = {
            variable.path: [self.add_variable_from_reference(variable, name) for name in "mv"]
            for variable in variables
        }

    def apply(self, grads, trainable_variables=None):
        """Update the variables; clipping, which Keras does before it sums rows, is done here."""
        if not self.built:
            self.build(trainable_variables)
        variables = trainable_variables or self._trainable_variables
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        norm = tf.linalg.global_norm([gradient for gradient, _ in pairs])
        scale = CLIP_NORM * tf.minimum(1.0 / norm, 1.0 / CLIP_NORM)
        rate, step = self.learning_rate, tf.cast(self.iterations, tf.float32) + 1
        for gradient, variable in pairs:
            old = [variable, *self._moments[variable.path]]
            decay = WEIGHT_DECAY if decayed(checkpoint_name(variable)) else 0.0
            values = map(tf.convert_to_tensor, old)
            gradient = tf.convert_to_tensor(gradient) * scale
            new = OPTIMIZERS[self.rule](*values, gradient, rate, step, decay)
            for holder, value in zip(old, new, strict=True):
                holder.assign(value)
        self.iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rule": self.rule}
