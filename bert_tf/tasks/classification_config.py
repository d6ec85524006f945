"""Flags of `run_classifier.py`: those of google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses

from bert_tf.data.delimited import PROBLEM_TYPES
from bert_tf.run_config import RunConfig, cli_flag

_OWN_FILES = "Your own files:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationConfig(RunConfig):
    """One run of the classifier: its task, data and what to do with it."""

    task_name: str = cli_flag(
        None,
        "A GLUE task (cola, mnli, ...), or csv, tsv or jsonl for your own files.",
        required=True,
    )
    data_dir: str = cli_flag(
        None,
        "Folder of the task's files, in the task's published layout.",
        required=True,
        free=True,
    )
    text_a_column: str = cli_flag("text", f"{_OWN_FILES} the column of the (first) sentence.")
    text_b_column: str | None = cli_flag(None, f"{_OWN_FILES} the column of the second sentence.")
    label_column: str = cli_flag("label", f"{_OWN_FILES} the column of the label.")
    id_column: str | None = cli_flag(
        None, f"{_OWN_FILES} the column of the row's name; by default rows are numbered."
    )
    problem_type: str = cli_flag(
        "classification",
        f"{_OWN_FILES} whether labels are classes or numbers.",
        choices=PROBLEM_TYPES,
    )
    export_dir: str | None = cli_flag(
        None,
        "Also write SavedModels for TF Serving here: text/<version>/ and features/<version>/.",
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.do_train or self.do_eval or self.do_predict or self.export_dir):
            raise ValueError(
                "At least one of `do_train`, `do_eval` or `do_predict' must be True."
                " (--export_dir alone exports a trained --output_dir.)"
            )

    def check_own_file_flags_unused(self) -> None:
        """Raises ValueError if a flag is set that a task in a published layout does not read."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["help"].startswith(_OWN_FILES) and value != field.default:
                raise ValueError(
                    f"--{field.name}={value} is for your own files (--task_name=csv, tsv or "
                    f"jsonl); --task_name={self.task_name} knows its columns: leave it out"
                )
