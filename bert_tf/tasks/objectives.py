"""What the tasks minimise: the losses of google-research/bert's programs."""

from __future__ import annotations

import tensorflow as tf

from bert_tf.training import Objective, Tensors


def sequence(regression: bool) -> Objective:
    """Of `heads.classifier`: cross-entropy (run_classifier.py, create_model), or squared error.

    Its results are `scores` float32 [B, L], probabilities or for a regression (L = 1) the
    predicted number, and `loss` float32 [B].
    """

    def per_example(outputs: Tensors, batch: Tensors) -> tf.Tensor:
        logits = tf.cast(outputs["logits"], tf.float32)  # [B, L]
        if regression:
            return tf.square(logits[:, 0] - batch["label_ids"][:, 0])
        log_probs = tf.nn.log_softmax(logits, axis=-1)
        return -tf.gather(log_probs, batch["label_ids"][:, 0], axis=1, batch_dims=1)

    def weights(batch: Tensors) -> tf.Tensor:
        return tf.cast(batch["is_real_example"][:, 0], tf.float32)

    def denominators(batch: Tensors) -> list[tf.Tensor]:
        return [tf.reduce_sum(weights(batch))]

    def numerators(outputs: Tensors, batch: Tensors) -> list[tf.Tensor]:
        return [tf.reduce_sum(weights(batch) * per_example(outputs, batch))]

    def results(outputs: Tensors, batch: Tensors) -> Tensors:
        logits = tf.cast(outputs["logits"], tf.float32)
        scores = logits if regression else tf.nn.softmax(logits, axis=-1)
        return {"scores": scores, "loss": per_example(outputs, batch)}

    return Objective(denominators, numerators, results)
