"""What tagging minimises."""

from __future__ import annotations

import tensorflow as tf

from bert_tf import crf
from bert_tf.training import Objective, Tensors


def tagging(use_crf: bool) -> Objective:
    """Of `heads.tagger`: the mean cross-entropy of the words, or with a CRF the mean of the
    sentences' negative log-likelihoods.

    Words are where `label_mask` is 1; a word in two windows counts in both, and a window counts as
    a sentence. Its results are `label_ids` int32 [B, F], the predicted labels (of a CRF the most
    probable sequence; 0 where the mask is 0), and `loss` and `weight` float32 [B]: the sum of the
    losses of a row and how many they are.
    """

    def weights(batch: Tensors) -> tf.Tensor:
        words = tf.reduce_sum(tf.cast(batch["label_mask"], tf.float32), axis=1)  # [B]
        return tf.minimum(words, 1.0) if use_crf else words

    def losses(outputs: Tensors, batch: Tensors) -> tf.Tensor:
        labels, mask = batch["label_ids"], batch["label_mask"]
        if use_crf:
            return -crf.log_likelihood(outputs["logits"], labels, mask, outputs)
        log_probs = tf.nn.log_softmax(tf.cast(outputs["logits"], tf.float32), axis=-1)
        log_probs = tf.gather(log_probs, labels, axis=2, batch_dims=2)  # [B, F]
        return -tf.reduce_sum(tf.cast(mask, tf.float32) * log_probs, axis=1)

    def denominators(batch: Tensors) -> list[tf.Tensor]:
        return [tf.reduce_sum(weights(batch))]  # not 0: every row that is no padding has a word

    def numerators(outputs: Tensors, batch: Tensors) -> list[tf.Tensor]:
        return [tf.reduce_sum(losses(outputs, batch))]

    def results(outputs: Tensors, batch: Tensors) -> Tensors:
        mask = batch["label_mask"]
        if use_crf:
            label_ids = crf.viterbi(outputs["logits"], mask, outputs)
        else:
            label_ids = tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32) * mask
        loss = losses(outputs, batch)
        return {"label_ids": label_ids, "loss": loss, "weight": weights(batch)}

    return Objective(denominators, numerators, results)
