"""The model of a worker: rows -> vectors, or a fine-tuned head's answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from bert_tf import checkpoints, distribution, heads
from bert_tf.batching import Arrays
from bert_tf.checkpoints.loading import assign
from bert_tf.modeling import BertModel
from bert_tf.serving.assets import Plan
from bert_tf.serving.flags import PoolingStrategy
from bert_tf.serving.rows import OF_ROWS, OF_TOKENS


class ServedModel:
    """Loads the weights and answers batches.

    Raises:
      ValueError: the weights do not fit the config, or lack what the pooling strategy needs.
    """

    def __init__(self, plan: Plan):
        self.plan, arguments = plan, plan.arguments
        self.strategy = arguments.pooling_strategy
        gpu = bool(tf.config.list_logical_devices("GPU"))
        half = "mixed_float16" if gpu else "mixed_bfloat16"
        self.output = np.float16 if arguments.fp16 else np.float32
        with distribution.precision_policy(half if arguments.fp16 else "float32"):
            self.model = self._load()
        if arguments.no_position_embeddings:
            table = self._encoder.embeddings.position_embeddings
            table.assign(tf.zeros_like(table))
        self._graph = tf.function(
            self._forward,
            autograph=False,
            jit_compile=arguments.xla or None,
            input_signature=None if arguments.xla else [_signature()],
        )

    def __call__(self, batch: Arrays) -> np.ndarray | list[np.ndarray]:
        """What `rows.features` makes of B rows -> [B, D]; without pooling, [length, D] of each."""
        places = list(zip(*(batch[name] for name in OF_ROWS), strict=True))
        if self.plan.arguments.xla:
            batch = self._in_a_compiled_shape(batch)
        outputs = self._graph({name: tf.constant(x) for name, x in batch.items()}).numpy()
        if self.strategy == PoolingStrategy.NONE:
            found = [outputs[line, start : start + length] for line, start, length in places]
            return [vectors.astype(self.output, copy=False) for vectors in found]
        return outputs[: len(places)].astype(self.output, copy=False)

    def _in_a_compiled_shape(self, batch: Arrays) -> Arrays:
        """Padded to one of few shapes, for each is compiled.

        Lines, and how many there are, to powers of two; rows to the most there may be.
        """
        lines, length = (1 << (size - 1).bit_length() for size in batch["input_ids"].shape)
        length = max(16, length)
        rows = max(len(batch["length"]), min(lines * length, self.plan.arguments.max_batch_size))
        shapes = dict.fromkeys(OF_TOKENS, (lines, length)) | dict.fromkeys(OF_ROWS, (rows,))
        return {
            name: np.pad(x, [(0, a - b) for a, b in zip(shapes[name], x.shape, strict=True)])
            for name, x in batch.items()
        }

    @property
    def _encoder(self) -> BertModel:
        return self.model if isinstance(self.model, BertModel) else self.model.bert

    def _load(self) -> BertModel | heads.TaskModel:
        plan, strategy = self.plan, self.strategy
        tensors = checkpoints.read(plan.weights, optimizer_state=False)
        if plan.task_type is not None:
            model = heads.classifier(plan.config, self._num_outputs(tensors))
        else:
            model = BertModel(plan.config, add_pooler=strategy == PoolingStrategy.CLS_POOLED)
            model.build()
        report = assign(model, tensors, plan.weights)
        if lacking := report.lacking:
            raise ValueError(
                f"-pooling_strategy={strategy} needs {', '.join(lacking)}, which {plan.weights} "
                "does not have; take another strategy, or a fine-tuned model"
            )
        return model

    def _num_outputs(self, tensors: Mapping[str, np.ndarray]) -> int:
        plan = self.plan
        if "output_bias" not in tensors:
            raise ValueError(
                f"-pooling_strategy={self.strategy}: {plan.weights} has no classifier "
                "(output_weights and output_bias); fine-tune it first"
            )
        count, asked = len(tensors["output_bias"]), plan.arguments.num_labels
        if asked not in (None, count) or (plan.labels and len(plan.labels) != count):
            raise ValueError(
                f"{plan.weights} has {count} outputs, but -num_labels={asked} and "
                f"{len(plan.labels)} labels are given"
            )
        if plan.task_type == "regression" and count != 1:
            raise ValueError(f"{plan.weights} has {count} outputs; a regression has one")
        if plan.task_type == "classification" and count == 1:
            raise ValueError(
                f"{plan.weights} has one output: a regression; take -pooling_strategy=REGRESSION"
            )
        return count

    def _forward(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        text, seen = batch["text"], batch["input_mask"]
        same = text[:, :, tf.newaxis] == text[:, tf.newaxis, :]
        fed = {
            "input_ids": batch["input_ids"],
            "input_mask": tf.cast(same, tf.int32) * seen[:, tf.newaxis, :],  # [R, F, T]
            "segment_ids": batch["segment_ids"],
            "position_ids": batch["position_ids"],
        }
        outputs = self._encoder(fed, training=False)
        first = batch["line"] * tf.shape(text)[1] + batch["start"]  # [B], of the R*F tokens
        if self._encoder.pooler is not None:
            pooled = self._encoder.pooler(_tokens(outputs["sequence_output"], first[:, tf.newaxis]))
            if self.plan.task_type is None:
                return tf.cast(pooled, tf.float32)
            return heads.scores(self.model.get_layer("classifier")(pooled), self.plan.task_type)
        layers = [outputs["encoder_outputs"][i] for i in self.plan.arguments.pooling_layer]
        states = tf.cast(tf.concat(layers, -1), tf.float32)  # [R, F, D]
        if self.strategy == PoolingStrategy.NONE:
            return states * tf.cast(seen, tf.float32)[:, :, tf.newaxis]
        if self.strategy == PoolingStrategy.FIRST_TOKEN:
            return _tokens(states, first)
        if self.strategy == PoolingStrategy.LAST_TOKEN:
            return _tokens(states, first + batch["length"] - 1)
        return _pooled(self.strategy, states, text * seen, tf.size(first))


def _tokens(states: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """[R, F, D] and places among the R*F tokens, of any shape -> their D numbers each."""
    return tf.gather(tf.reshape(states, [-1, states.shape[-1]]), places)


def _pooled(
    strategy: PoolingStrategy, states: tf.Tensor, owner: tf.Tensor, rows: tf.Tensor
) -> tf.Tensor:
    """Mean, max or both over the tokens of each row, as `bert_tf.pooling` does it for rows alone.

    Args:
      states: [R, F, D].
      owner: int32 [R, F], the number of the row that a token is of, from 1; 0 for those left out.
      rows: B.
    """
    made = []
    if strategy in (PoolingStrategy.REDUCE_MEAN, PoolingStrategy.REDUCE_MEAN_MAX):
        ones = tf.ones_like(states[:, :, :1])
        total, count = (tf.math.unsorted_segment_sum(x, owner, rows + 1) for x in (states, ones))
        made.append(tf.math.divide_no_nan(total, count))
    if strategy in (PoolingStrategy.REDUCE_MAX, PoolingStrategy.REDUCE_MEAN_MAX):
        made.append(tf.math.unsorted_segment_max(states, owner, rows + 1))
    return tf.concat(made, -1)[1:]


def _signature() -> dict[str, tf.TensorSpec]:
    tokens, rows = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
    return dict.fromkeys(OF_TOKENS, tokens) | dict.fromkeys(OF_ROWS, rows)
