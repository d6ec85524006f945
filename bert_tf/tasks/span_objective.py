"""What question answering minimises: the loss of google-research/bert's run_squad.py."""

from __future__ import annotations

import tensorflow as tf

from bert_tf.training import Objective, Tensors


def span(google_exact: bool = False) -> Objective:
    """Of `heads.span`: the mean of the cross-entropies of the answer's first and last position.

    Google's softmax goes over the whole row, question and padding included, so the loss depends on
    how far rows are padded: for Google's loss train on rows of `max_seq_length`
    (--pad_to_max_seq_length).

    Its results are `start_logits` and `end_logits`, float32 [B, F]. An answer never lies in
    padding: there they are -inf, so that batches padded to any length give the same answers. With
    `google_exact` they stay as they are, for rows of `max_seq_length`: then, as in Google's
    program, padding can be among the n best positions and take the place of an answer.
    """

    def weights(batch: Tensors) -> tf.Tensor:
        """[B]: 0 for rows that only fill the batch; all others begin with [CLS]."""
        return tf.cast(batch["input_mask"][:, 0], tf.float32)

    def cross_entropy(logits: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32), axis=-1)  # [B, F]
        return -tf.gather(log_probs, positions[:, 0], axis=1, batch_dims=1)

    def denominators(batch: Tensors) -> list[tf.Tensor]:
        return [tf.reduce_sum(weights(batch))]

    def numerators(outputs: Tensors, batch: Tensors) -> list[tf.Tensor]:
        start = cross_entropy(outputs["start_logits"], batch["start_positions"])
        end = cross_entropy(outputs["end_logits"], batch["end_positions"])
        return [tf.reduce_sum(weights(batch) * (start + end) / 2.0)]

    def results(outputs: Tensors, batch: Tensors) -> Tensors:
        logits = {
            name: tf.cast(outputs[name], tf.float32) for name in ("start_logits", "end_logits")
        }
        if google_exact:
            return logits
        padding = batch["input_mask"] == 0
        return {name: tf.where(padding, -float("inf"), value) for name, value in logits.items()}

    return Objective(denominators, numerators, results)
