"""Google's optimizer: warm-up and decay of the learning rate, clipping, BERT's Adam.

The numbers are those of google-research/bert's optimization.py, which no Keras optimizer gives:
the moments are not corrected for bias, the decay of weights is part of the update, and gradients
are clipped by their global norm after all replicas have been summed.

An optimizer is a function (weight, m, v, gradient, learning_rate, step, weight_decay) ->
(weight, m, v) of float32 tensors of one shape, and its entry in `OPTIMIZERS`.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf

from bert_tf.modeling import checkpoint_name

Variable = tf.Variable | keras.Variable
Rule = Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]

CLIP_NORM = 1.0
WEIGHT_DECAY = 0.01
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-6
_NOT_DECAYED = re.compile("LayerNorm|layer_norm|bias")


def _moments(m, v, gradient):
    return BETA_1 * m + (1 - BETA_1) * gradient, BETA_2 * v + (1 - BETA_2) * tf.square(gradient)


def _unbiased(m, v, step):
    """The moments without the zeros they started from (Kingma and Ba, section 3)."""
    return m / (1 - tf.pow(BETA_1, step)), v / (1 - tf.pow(BETA_2, step))


def _direction(weight, m, v, weight_decay):
    update = m / (tf.sqrt(v) + EPSILON)
    return update + weight_decay * weight if weight_decay else update


def adamw(weight, m, v, gradient, learning_rate, step, weight_decay):
    """BERT's Adam (optimization.py, AdamWeightDecayOptimizer.apply_gradients)."""
    del step  # Google's does not correct the moments for bias
    m, v = _moments(m, v, gradient)
    return weight - learning_rate * _direction(weight, m, v, weight_decay), m, v


def adamw_bias_corrected(weight, m, v, gradient, learning_rate, step, weight_decay):
    """The same with corrected moments: AdamW as everybody else has it (Loshchilov and Hutter)."""
    m, v = _moments(m, v, gradient)
    update = _direction(weight, *_unbiased(m, v, step), weight_decay)
    return weight - learning_rate * update, m, v


def lamb(weight, m, v, gradient, learning_rate, step, weight_decay):
    """LAMB (You et al., 2020, algorithm 2): each matrix moves in proportion to its own norm.

    Only what decays does: LayerNorms and biases move as in Adam, as in google-research/albert.
    """
    m, v = _moments(m, v, gradient)
    update = _direction(weight, *_unbiased(m, v, step), weight_decay)
    if weight_decay:
        weight_norm, update_norm = tf.norm(weight), tf.norm(update)
        both = (weight_norm > 0) & (update_norm > 0)
        ratio = tf.where(both, tf.math.divide_no_nan(weight_norm, update_norm), 1.0)
        learning_rate = learning_rate * ratio
    return weight - learning_rate * update, m, v


OPTIMIZERS: dict[str, Rule] = {rule.__name__: rule for rule in (adamw, adamw_bias_corrected, lamb)}


def decayed(name: str) -> bool:
    """Whether the variable of this checkpoint name decays: all but LayerNorms and biases do."""
    return not _NOT_DECAYED.search(name)


def layerwise_scale(name: str, decay: float, num_hidden_layers: int) -> float:
    """The share of the learning rate that a variable gets: `decay` once for each layer above it.

    The pooler and what stands on top have 1, the last layer `decay`, the embeddings the least:
    `decay ** (num_hidden_layers + 1)` (Clark et al., 2020, appendix A).
    """
    if name.startswith("bert/embeddings/"):
        below = num_hidden_layers + 1
    elif match := re.match(r"bert/encoder/layer_(\d+)/", name):
        below = num_hidden_layers - int(match[1])
    else:
        below = 0
    return decay**below


def google_rate(
    step: tf.Tensor, peak: float, num_train_steps: int, num_warmup_steps: int
) -> tf.Tensor:
    """Return the learning rate of step s = 1, 2, ..., both float32 scalars.

    It is `peak * s / num_warmup_steps` before that many steps are done, and then
    `peak * (1 - s / num_train_steps)`, a line that the warm-up does not shift. (Google's graph
    reads `global_step` and raises it in no fixed order; the recorded runs raise it first, so the
    rate 0 of a step 0 is never used, and the last step has rate 0.)
    """
    done = tf.minimum(step, num_train_steps) / num_train_steps
    rate = peak * (1.0 - done)
    if not num_warmup_steps:
        return rate
    growing = peak * (step / num_warmup_steps)
    return tf.where(step < num_warmup_steps, growing, rate)


def linear_rate(
    step: tf.Tensor, peak: float, num_train_steps: int, num_warmup_steps: int
) -> tf.Tensor:
    """Return that of transformers' `get_linear_schedule_with_warmup`.

    The line starts from the peak after the warm-up; the first step of a warm-up has rate 0.
    """
    done = step - 1
    left = tf.maximum(num_train_steps - done, 0) / max(1, num_train_steps - num_warmup_steps)
    growing = done / max(1, num_warmup_steps)
    return peak * tf.where(done < num_warmup_steps, growing, left)


LR_SCHEDULES: dict[str, Callable[..., tf.Tensor]] = {"google": google_rate, "linear": linear_rate}


def create_optimizer(
    learning_rate: float,
    num_train_steps: int,
    num_warmup_steps: int,
    name: str = "adamw",
    rate_scale: Callable[[str], float] | None = None,
    loss_scaling: bool = False,
    lr_schedule: str = "google",
) -> Optimizer:
    """Google's `create_optimizer`; call it inside `strategy.scope()` where there is a strategy.

    Args:
      learning_rate: the peak, before the decay.
      num_train_steps: steps of the whole run; the learning rate reaches 0 there.
      num_warmup_steps: steps in which the learning rate grows from 0; may be 0.
      name: a key of `OPTIMIZERS`.
      rate_scale: checkpoint name -> the share of the learning rate that the variable gets.
      loss_scaling: whether gradients are those of a loss that is multiplied by `loss_scale`.
      lr_schedule: a key of `LR_SCHEDULES`.

    Raises:
      ValueError: an unknown name, or no steps.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer is called {name!r}; choose one of {sorted(OPTIMIZERS)}")
    if lr_schedule not in LR_SCHEDULES:
        raise ValueError(f"lr_schedule={lr_schedule!r}; choose one of {sorted(LR_SCHEDULES)}")
    if num_train_steps < 1:
        raise ValueError(f"num_train_steps={num_train_steps}; at least one step is needed")
    loss_scale = LossScale() if loss_scaling else None
    schedule = functools.partial(
        LR_SCHEDULES[lr_schedule],
        peak=learning_rate,
        num_train_steps=num_train_steps,
        num_warmup_steps=num_warmup_steps,
    )
    return Optimizer(name, schedule, rate_scale, loss_scale)


class LossScale:
    """What the loss is multiplied by, so that float16 can hold its gradients (Micikevicius, 2018).

    It is halved when a gradient is not finite, and doubled after `PATIENCE` steps without one.
    """

    FIRST, PATIENCE = 2.0**15, 2000

    def __init__(self) -> None:
        with tf.init_scope():
            self.value = tf.Variable(self.FIRST, False, name="loss_scale", dtype=tf.float32)
            self.good_steps = tf.Variable(0, False, name="loss_scale_good_steps", dtype=tf.int64)

    def update(self, finite: tf.Tensor) -> None:
        """After a step, whose gradients were finite or not."""
        good = tf.where(finite, self.good_steps + 1, 0)
        grows = good >= self.PATIENCE
        grown = tf.where(grows, self.value * 2, self.value)
        self.value.assign(tf.where(finite, grown, tf.maximum(self.value / 2, 1.0)))
        self.good_steps.assign(tf.where(grows, tf.zeros_like(good), good))


class Optimizer:
    """Updates variables, one step for each `apply_gradients`; made by `create_optimizer`.

    Attributes:
      global_step: int64 variable, the number of steps done.
      slots: the two moments of each variable, under "<checkpoint name>/adam_m" and
        "<checkpoint name>/adam_v", as Google's checkpoints call them ("lamb_m", "lamb_v" for
        LAMB). float32 variables.
    """

    def __init__(
        self,
        name: str,
        schedule: Callable[[tf.Tensor], tf.Tensor],
        rate_scale: Callable[[str], float] | None,
        loss_scale: LossScale | None,
    ):
        self._rule = OPTIMIZERS[name]
        self._slot_prefix = "lamb" if name == "lamb" else "adam"
        self._rate_scale = rate_scale
        self._schedule = schedule
        self._strategy = tf.distribute.get_strategy()
        with tf.init_scope():
            self.global_step = tf.Variable(0, False, name="global_step", dtype=tf.int64)
        self.slots: dict[str, tf.Variable] = {}
        self._loss_scale = loss_scale

    def __repr__(self) -> str:
        # Keras shows it where model.compile is given this.
        return (
            "bert_tf.optimization.Optimizer, which is none of Keras's; for model.compile use "
            "bert_tf.keras_optimizer.KerasOptimizer"
        )

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """All state, by the name that it has in a checkpoint."""
        state = self.slots | {"global_step": self.global_step}
        if (scale := self._loss_scale) is None:
            return state
        return state | {v.name.removesuffix(":0"): v for v in (scale.value, scale.good_steps)}

    @property
    def loss_scale(self) -> tf.Tensor | float:
        """What the loss of the step to come is multiplied by."""
        return 1.0 if self._loss_scale is None else tf.identity(self._loss_scale.value)

    @property
    def learning_rate(self) -> tf.Tensor:
        """Of the step to come, a float32 scalar."""
        return self._schedule(tf.cast(self.global_step + 1, tf.float32))

    def build(self, variables: Iterable[Variable]) -> None:
        """Makes the slots that are not there yet, all zeros.

        Raises:
          ValueError: two variables have one name, or this is not the strategy of the optimizer.
        """
        if tf.distribute.get_strategy() is not self._strategy:
            raise ValueError(
                "the optimizer was made under another tf.distribute strategy than its variables; "
                "call create_optimizer and build inside strategy.scope()"
            )
        variables = list(variables)
        name, count = Counter(map(_name, variables)).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} variables are called {name!r}; give their layers names")
        for variable in variables:
            for slot in self._slot_names(_name(variable)):
                if slot not in self.slots:
                    with tf.init_scope():
                        zeros = tf.zeros(variable.shape)
                        self.slots[slot] = tf.Variable(zeros, trainable=False, name=slot)

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[tf.Tensor | tf.IndexedSlices | None, Variable]],
        squares: Sequence[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """One step: clips by the global norm, updates the variables, counts the step.

        Under a strategy call it in replica context (inside `strategy.run`) with gradients that
        are already reduced: each replica then updates its own copy, and all stay equal.

        Args:
          grads_and_vars: pairs; a gradient of None leaves its variable alone. With loss scaling
            gradients of the multiplied loss.
          squares: whose sum is the square of the global norm; by default that of the gradients.

        Returns:
          The global norm before clipping, a float32 scalar. Where it is not finite, variables
          and slots have kept their values, and the caller is the one to stop.
        """
        pairs = [(g, v) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ValueError("no variable has a gradient; does the loss depend on the model?")
        self.build(variable for _, variable in pairs)
        # Of the rows of an embedding, as tf.clip_by_global_norm does it in Google's code: a token
        # that occurs twice counts twice. Only then are repeated rows summed.
        if squares is None:
            norm = tf.linalg.global_norm([gradient for gradient, _ in pairs])
        else:
            norm = tf.sqrt(tf.add_n(list(squares)))
        norm /= self.loss_scale
        scale = CLIP_NORM * tf.minimum(1.0 / norm, 1.0 / CLIP_NORM) / self.loss_scale
        learning_rate, finite = self.learning_rate, tf.math.is_finite(norm)
        step = tf.cast(self.global_step + 1, tf.float32)
        for gradient, variable in pairs:
            name = _name(variable)
            update = _compiled(self._rule, variable.shape, WEIGHT_DECAY if decayed(name) else 0.0)
            updated = [_value(variable), *(self.slots[slot] for slot in self._slot_names(name))]
            # A handle is that of this replica's copy; a variable that is passed to a function
            # would be that of the first replica.
            handles = [v.handle for v in updated]
            rate = learning_rate
            if self._rate_scale is not None:
                rate = learning_rate * self._rate_scale(name)
            with self._beside(variable):
                update(*handles, tf.convert_to_tensor(gradient), scale, rate, step, finite)
        if self._loss_scale is not None:
            self._loss_scale.update(finite)
        self.global_step.assign_add(1)
        return norm

    def _beside(self, variable: Variable) -> contextlib.AbstractContextManager[None]:
        """Where a variable is updated: on the parameter server that holds it, if one does."""
        if isinstance(self._strategy, tf.distribute.ParameterServerStrategy):
            return tf.device(_value(variable).device)
        return contextlib.nullcontext()

    def _slot_names(self, name: str) -> tuple[str, str]:
        return f"{name}/{self._slot_prefix}_m", f"{name}/{self._slot_prefix}_v"


@functools.cache
def _compiled(rule: Rule, shape: tf.TensorShape, weight_decay: float) -> Callable[..., None]:
    """`rule` for variables of one shape, fused by XLA: no tensor of the formula's parts is made.

    (TensorFlow's own fused kernel, ResourceApplyAdam, takes the same time in a whole step. But it
    takes 1 - beta_2 in float32, which makes v 1.3e-5 too small, and it knows no decay: at learning
    rates of fine-tuning, decay by itself rounds away; as a part of the update it does not.)
    """
    resource, scalar = tf.TensorSpec([], tf.resource), tf.TensorSpec([], tf.float32)
    signature = [resource] * 3 + [tf.TensorSpec(shape), *[scalar] * 3, tf.TensorSpec([], tf.bool)]

    @tf.function(input_signature=signature, jit_compile=True, autograph=False)
    def update(weight, m, v, gradient, scale, learning_rate, step, finite):
        handles = weight, m, v
        old = [tf.raw_ops.ReadVariableOp(resource=h, dtype=tf.float32) for h in handles]
        old = [tf.ensure_shape(value, shape) for value in old]
        new = rule(*old, gradient * scale, learning_rate, step, weight_decay)
        for handle, before, after in zip(handles, old, new, strict=True):
            value = tf.where(finite, after, before)
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    with tf.init_scope(), tf.device(None):  # traced once for all graphs and all devices
        return update.get_concrete_function()


def _name(variable: Variable) -> str:
    if isinstance(variable, keras.Variable):
        return checkpoint_name(variable)
    return variable.name.removesuffix(":0")


def _value(variable: Variable) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
