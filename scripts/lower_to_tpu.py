"""Lowers a whole training step of every head to TPU HLO; no TPU is needed. See lower_to_tpu.sh.

The step is a function of its weights, moments and batch (forward, loss, gradients, clipping,
Adam), so that no variable has to lie on a TPU. What XLA for TPUs cannot lower is an error here.
"""

import dataclasses
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no metadata server to ask
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from step_cases import CASES, CONFIG, RandomRows  # noqa: E402

from bert_tf import modeling, optimization  # noqa: E402
from bert_tf.distribution import precision_policy  # noqa: E402

BATCH = 8


def step_of(model, objective):
    """(weights, m, v, batch, seed, rate) -> weights, m, v, loss: `TrainStep` without variables."""
    variables = model.trainable_variables
    decays = [optimization.decayed(modeling.checkpoint_name(v)) for v in variables]

    def step(weights, m, v, batch, seed, rate):
        with tf.GradientTape() as tape, modeling.dropout_seed(seed):
            tape.watch(weights)
            mapping = list(zip(variables, weights, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                outputs = model({x.name: batch[x.name] for x in model.inputs}, training=True)
            terms = zip(
                objective.numerators(outputs, batch), objective.denominators(batch), strict=True
            )
            loss = tf.add_n([numerator / denominator for numerator, denominator in terms])
        gradients = tape.gradient(loss, weights)
        norm = tf.linalg.global_norm(gradients)
        scale = optimization.CLIP_NORM * tf.minimum(1.0 / norm, 1.0 / optimization.CLIP_NORM)
        new = [
            optimization.adamw(
                *(weight, m, v, tf.convert_to_tensor(gradient) * scale, rate, None),
                optimization.WEIGHT_DECAY if decay else 0.0,
            )
            for weight, m, v, gradient, decay in zip(weights, m, v, gradients, decays, strict=True)
        ]
        return [list(values) for values in zip(*new, strict=True)] + [loss]

    return step


def lower(name, precision):
    """The HLO text of the step of one of CASES."""
    model_of, objective_of, spec = CASES[name]
    config = dataclasses.replace(CONFIG, hidden_size=128, num_attention_heads=2)
    with precision_policy(precision):
        model = model_of(config)
    model.bert.embeddings.use_one_hot_embeddings = True
    weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    zeros = [tf.zeros_like(weight) for weight in weights]
    batch = {k: tf.constant(v) for k, v in RandomRows(spec).batch(range(BATCH)).items()}
    step = tf.function(step_of(model, objective_of()), autograph=False, jit_compile=True)
    arguments = weights, zeros, zeros, batch, tf.constant([1, 2]), tf.constant(1e-4)
    return step.experimental_get_compiler_ir(*arguments)(stage="hlo", platform_name="TPU")


def main():
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}")
    for precision in ("float32", "mixed_bfloat16"):
        for name in CASES:
            hlo = lower(name, precision)
            products = hlo.count(" dot(")
            foreign = [x for x in ("infeed", "outfeed", "send(", "recv(") if x in hlo]
            calls = hlo.count("custom-call")
            print(
                f"{name}, {precision}: {len(hlo.splitlines())} lines of HLO, {products} products, "
                f"{calls} custom calls, host transfers: {', '.join(foreign) or 'none'}",
                flush=True,
            )
            assert products and not foreign
            assert ("bf16[" in hlo) == (precision == "mixed_bfloat16")


if __name__ == "__main__":
    main()
