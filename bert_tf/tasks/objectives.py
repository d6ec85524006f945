"""What the tasks minimise: the losses of google-research/bert's programs, and variants of them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from bert_tf import crf
from bert_tf.train_step import Objective, Tensors


def losses(
    logits: tf.Tensor, label_ids: tf.Tensor, problem_type: str, label_smoothing: float = 0.0
) -> tf.Tensor:
    """The loss of each row, float32 [B].

    Cross-entropy (run_classifier.py, create_model), squared error, or the mean over the labels of
    the cross-entropies of yes and no.

    Args:
      logits: [B, L].
      label_ids: int32 [B, 1]; float32 [B, 1] for a regression, [B, L] of 0 and 1 for multilabel.
      label_smoothing: the share of the truth that is spread over all classes alike.
    """
    logits = tf.cast(logits, tf.float32)
    if problem_type == "regression":
        return tf.square(logits[:, 0] - label_ids[:, 0])
    if problem_type == "multilabel":
        truth = label_ids * (1 - label_smoothing) + 0.5 * label_smoothing
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), axis=-1)
    log_probs = tf.nn.log_softmax(logits, axis=-1)
    loss = -tf.gather(log_probs, label_ids[:, 0], axis=1, batch_dims=1)
    if not label_smoothing:
        return loss
    uniform = -tf.reduce_mean(log_probs, axis=-1)
    return (1 - label_smoothing) * loss + label_smoothing * uniform


def sequence(
    problem_type: str,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Objective:
    """Of `heads.classifier`. Its results are `logits` float32 [B, L].

    Args:
      problem_type: "classification", "regression" or "multilabel".
      class_weights: how much a row of each class counts; the loss of a step is the weighted mean.
      label_smoothing: as in `losses`.
    """

    def weights(batch: Tensors) -> tf.Tensor:
        real = tf.cast(batch["is_real_example"][:, 0], tf.float32)
        if class_weights is None:
            return real
        table = tf.constant(class_weights, tf.float32)
        return real * tf.gather(table, batch["label_ids"][:, 0])

    def denominators(batch: Tensors) -> list[tf.Tensor]:
        return [tf.reduce_sum(weights(batch))]

    def numerators(outputs: Tensors, batch: Tensors) -> list[tf.Tensor]:
        loss = losses(outputs["logits"], batch["label_ids"], problem_type, label_smoothing)
        return [tf.reduce_sum(weights(batch) * loss)]

    def results(outputs: Tensors, batch: Tensors) -> Tensors:
        del batch
        return {"logits": tf.cast(outputs["logits"], tf.float32)}

    whole = frozenset({"label_ids"}) if problem_type == "multilabel" else frozenset()
    return Objective(denominators, numerators, results, whole)


def span(google_exact: bool = False) -> Objective:
    """Of `heads.span`: the mean of the cross-entropies of the answer's first and last position.

    Google's softmax goes over the whole row, question and padding included, so the loss depends on
    how far rows are padded: training pads them to `max_seq_length`.

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

    return Objective(denominators, numerators, results, counts_padding=True)


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


def pretraining(next_sentence: bool = True) -> Objective:
    """Of `heads.pretraining`: masked words, and the next sentence (run_pretraining.py).

    The first loss is the mean over all masked words of the batch, the second over its texts: those
    of a row are numbered in `input_mask`, and one alone is number 1. As in Google's code 1e-5 is
    added to the number of masked words.

    Its results are sums over the masked words of a row, each float32 [B]: `masked_lm_loss`,
    `masked_lm_correct` and `masked_lm_weight`, and `next_sentence_loss` and
    `next_sentence_correct`, which take one text in a row.
    """

    def denominators(batch: Tensors) -> list[tf.Tensor]:
        masked = tf.reduce_sum(batch["masked_lm_weights"]) + 1e-5
        return [masked, tf.reduce_sum(_texts(batch))] if next_sentence else [masked]

    def numerators(outputs: Tensors, batch: Tensors) -> list[tf.Tensor]:
        masked = tf.reduce_sum(_masked_words(outputs, batch))
        if not next_sentence:
            return [masked]
        return [masked, tf.reduce_sum(_next_sentences(outputs, batch))]

    def results(outputs: Tensors, batch: Tensors) -> Tensors:
        weights = batch["masked_lm_weights"]
        right = _right(outputs["masked_lm_logits"], batch["masked_lm_ids"])
        sums = {
            "masked_lm_loss": tf.reduce_sum(_masked_words(outputs, batch), axis=1),
            "masked_lm_correct": tf.reduce_sum(right * weights, axis=1),
            "masked_lm_weight": tf.reduce_sum(weights, axis=1),
        }
        if not next_sentence:
            return sums
        labels = batch["next_sentence_labels"][:, 0]
        logits = tf.reshape(outputs["next_sentence_logits"], [-1, 2])
        sums["next_sentence_loss"] = _next_sentences(outputs, batch)[:, 0]
        return sums | {"next_sentence_correct": _right(logits, labels)}

    masked = frozenset({"masked_lm_positions", "masked_lm_ids", "masked_lm_weights"})
    return Objective(denominators, numerators, results, whole=masked)


def _masked_words(outputs: Tensors, batch: Tensors) -> tf.Tensor:
    """Cross-entropies, times their weights: [B, M]."""
    losses = _cross_entropies(outputs["masked_lm_logits"], batch["masked_lm_ids"])
    return losses * batch["masked_lm_weights"]


def _texts(batch: Tensors) -> tf.Tensor:
    """1 for each text, 0 for the places of texts that are not there: [B, K]."""
    places = tf.range(1, tf.shape(batch["next_sentence_labels"])[1] + 1)
    there = places <= tf.reduce_max(batch["input_mask"], axis=1, keepdims=True)
    return tf.cast(there, tf.float32)


def _next_sentences(outputs: Tensors, batch: Tensors) -> tf.Tensor:
    """Cross-entropies of the texts: [B, K]."""
    labels = batch["next_sentence_labels"]
    return _cross_entropies(outputs["next_sentence_logits"], labels) * _texts(batch)


def _cross_entropies(logits: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Of scores [B, N, L], or [B, L] where N is 1, for ids [B, N]: float32 [B, N]."""
    flat = tf.reshape(tf.cast(logits, tf.float32), [-1, logits.shape[-1]])
    # The op itself: the function around it asserts shapes, which stands in the way of grappler.
    losses, _ = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=flat, labels=tf.reshape(ids, [-1])
    )
    return tf.reshape(losses, tf.shape(ids))


def _right(logits: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """1.0 where the highest of the scores [..., L] is that of the id [...]."""
    return tf.cast(tf.argmax(logits, axis=-1, output_type=ids.dtype) == ids, tf.float32)
