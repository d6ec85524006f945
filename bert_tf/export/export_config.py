"""Flags of `python -m bert_tf.export`. Without TensorFlow."""

from __future__ import annotations

import dataclasses

from bert_tf.checkpoints import given
from bert_tf.run_config import check_values, cli_flag

# task_type -> the Servable that exports it, as module and class: imported when it is used. The
# class has `from_checkpoint(FineTuned)`.
_CLASSIFIER = ("bert_tf.export.classification", "Classifier")
SERVABLES = {
    "classification": _CLASSIFIER,
    "regression": _CLASSIFIER,
    "multilabel": _CLASSIFIER,
    "tagging": ("bert_tf.export.tagging", "Tagger"),
    "masked_lm": ("bert_tf.export.masked_language_model", "MaskedLanguageModel"),
    "question_answering": ("bert_tf.export.question_answering", "QuestionAnswering"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to export and where to; left out, a task's settings are those beside the weights."""

    checkpoint: str = cli_flag(
        None,
        "Fine-tuned weights: an output_dir or its final_model, a TF1 checkpoint of Google's "
        "program with config and vocabulary beside it, or a Hugging Face folder.",
        required=True,
    )
    export_dir: str = cli_flag(
        None,
        "SavedModels are written as <export_dir>/text/<version>/ and "
        "<export_dir>/features/<version>/.",
        required=True,
    )
    task_type: str | None = cli_flag(
        None,
        "What the model was trained to do, where no task.json says so.",
        choices=tuple(SERVABLES),
    )
    max_seq_length: int | None = cli_flag(
        None, "Longest input in word pieces, [CLS] and [SEP] included; by default as trained."
    )
    labels: str | None = cli_flag(
        None,
        "A classifier's or tagger's labels in the order of its outputs, with commas between them; "
        "by default those beside the weights.",
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.max_seq_length is not None and self.max_seq_length < 3:
            raise ValueError(
                f"--max_seq_length={self.max_seq_length} leaves no room for a word between [CLS] "
                "and [SEP]; give 3 or more"
            )
        names = self.label_list()
        if names is not None and (not all(names) or len(set(names)) < len(names)):
            raise ValueError(f"--labels={self.labels}: a label is empty or there twice")

    def check_inputs(self) -> None:
        """Check the paths that the flags name. Raises ValueError."""
        given.check(self)

    def label_list(self) -> list[str] | None:
        """The labels, or None where the flag is left out."""
        return None if self.labels is None else [name.strip() for name in self.labels.split(",")]
