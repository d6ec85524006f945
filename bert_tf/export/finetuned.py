"""A fine-tuned checkpoint and what is known of it: from flags, from beside it, from its heads."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bert_tf import checkpoints
from bert_tf.export.export_config import ExportConfig

if TYPE_CHECKING:
    import keras
    import numpy as np

    from bert_tf.config import BertConfig
    from bert_tf.tokenization import Tokenizer


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """What a servable is made from.

    Attributes:
      path: as the user named it, for messages.
      task_type: what it was trained to do.
      task: task.json, empty where there is none.
      tensors: its weights under Google's names.
      labels: given or found, or None.
      max_seq_length: given or found.
    """

    path: str
    task_type: str
    task: Mapping[str, Any]
    config: BertConfig
    tokenizer: Tokenizer
    tensors: Mapping[str, np.ndarray]
    labels: list[str] | None
    max_seq_length: int

    def num_outputs(self) -> int:
        """L of the classifier's `output_bias` [L]. Raises ValueError if there is no classifier."""
        if "output_bias" not in self.tensors:
            raise ValueError(f"{self.path} holds no output_weights and output_bias of a classifier")
        return len(self.tensors["output_bias"])

    def named_labels(self, count: int) -> list[str]:
        """The labels. Raises ValueError if they are not known or not `count`."""
        if not self.labels:
            raise ValueError(
                f"--labels is needed: {self.path} has {count} outputs, and no labels.json (or "
                "id2label in config.json) beside it names them; give their names in the order of "
                "the outputs, with commas between them"
            )
        if len(self.labels) != count:
            raise ValueError(
                f"{self.path} has {count} outputs, but {len(self.labels)} labels: "
                f"{', '.join(self.labels)}; mend --labels"
            )
        return self.labels

    def load(self, model: keras.Model) -> keras.Model:
        """Gives a model these weights. Raises ValueError if some of the model's are not there."""
        from bert_tf.checkpoints.loading import assign

        report = assign(model, self.tensors, self.path)
        if lacking := report.lacking:
            raise ValueError(
                f"{self.path} holds no {self.task_type} model of its config: {', '.join(lacking)} "
                "lacking, or of another shape"
            )
        return model


def read(config: ExportConfig) -> FineTuned:
    """Finds everything there is to know about `--checkpoint`.

    Raises: ValueError saying what is missing or does not fit, and which flag mends it.
    """
    path = config.checkpoint
    bert_config, tokenizer = checkpoints.architecture(path)
    task = checkpoints.saved_task(path) or {}
    tensors = checkpoints.read(path, optimizer_state=False)
    labels = config.label_list()
    labels = checkpoints.saved_labels(path) if labels is None else labels
    return FineTuned(
        path,
        _task_type(config, task, tensors, labels),
        task,
        bert_config,
        tokenizer,
        tensors,
        labels,
        _max_seq_length(config, task, bert_config.max_position_embeddings),
    )


def _task_type(
    config: ExportConfig,
    task: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    labels: list[str] | None,
) -> str:
    given, noted = config.task_type, task.get("task_type")
    if given and noted and given != noted:
        raise ValueError(
            f"--task_type={given}, but task.json beside {config.checkpoint} says {noted}"
        )
    if known := given or checkpoints.noted_task_type(config.checkpoint):
        return known
    if "cls/squad/output_bias" in tensors:
        return "question_answering"
    if "output_bias" not in tensors:
        if "cls/predictions/output_bias" in tensors:
            return "masked_lm"
        raise ValueError(
            f"{config.checkpoint} holds no head that could be served: neither a classifier's "
            "(output_weights) nor one for question answering (cls/squad) or masked words "
            "(cls/predictions); fine-tune it first"
        )
    return "regression" if len(tensors["output_bias"]) == 1 and not labels else "classification"


def _max_seq_length(config: ExportConfig, task: Mapping[str, Any], positions: int) -> int:
    length = config.max_seq_length or task.get("max_seq_length")
    if not isinstance(length, int):
        raise ValueError(
            f"--max_seq_length is needed: no task.json beside {config.checkpoint} says for how "
            "many word pieces it was trained"
        )
    if length > positions:
        raise ValueError(
            f"--max_seq_length={length} exceeds this model's {positions} positions; "
            f"use {positions} or less"
        )
    return length


def run_dir(path: str) -> str:
    """Where run.json and metrics.json would lie: beside the weights, or above a final_model."""
    weights = checkpoints.locate(path).weights
    folder = os.path.dirname(weights or path)
    return os.path.dirname(folder) if os.path.basename(folder) == "final_model" else folder
