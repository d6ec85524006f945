"""Flags of `run_classifier.py`: those of google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses

from bert_tf.data.delimited import PROBLEM_TYPES, named_delimiter
from bert_tf.data.examples import LABEL_SEPARATOR
from bert_tf.data.features import POOLINGS
from bert_tf.data.glue import DEFAULT_LANGUAGE
from bert_tf.packing import LONG_TEXT
from bert_tf.run_config import SEVERAL_PROCESSES, cli_flag, shared_flag
from bert_tf.tasks import sentence_data
from bert_tf.tasks.dataset_config import DatasetConfig

_OWN_FILES = "Your own files:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationConfig(DatasetConfig):
    """One run of the classifier: its task, data and what to do with it."""

    task_name: str = cli_flag(
        None,
        "A task of GLUE or CLUE, xnli, paws-x, lcqmc or chnsenticorp; or csv, tsv or jsonl for "
        "your own files.",
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
    delimiter: str | None = cli_flag(
        None,
        f"{_OWN_FILES} csv: what separates the columns, a character or 'tab'; by default the one "
        "of comma, semicolon, tab and | by which the first row names them.",
    )
    problem_type: str = cli_flag(
        "classification",
        f"{_OWN_FILES} whether a label is a class, a number, or any number of classes with "
        f"{LABEL_SEPARATOR!r} in between (in JSON a list).",
        choices=PROBLEM_TYPES,
    )
    labels: str | None = shared_flag(
        "labels",
        DatasetConfig,
        help=f"{_OWN_FILES} the classes, with commas in between; one with a comma in it stands in "
        "double quotes. By default those of the training file.",
    )
    xnli_language: str | None = cli_flag(
        None, f"Language of xnli or paws-x; by default {DEFAULT_LANGUAGE}, as in Google's program."
    )
    long_text: str = cli_flag(
        "truncate",
        "What becomes of texts longer than --max_seq_length: their end is cut, or the middle "
        "(head_tail), or they become several overlapping windows, whose answers are joined.",
        choices=LONG_TEXT,
    )
    window_stride: int | None = cli_flag(
        None, "With --long_text=windows: pieces between two starts; by default half a window."
    )
    window_pooling: str = cli_flag(
        "mean",
        "With --long_text=windows: how the logits of a text's windows are joined.",
        choices=tuple(POOLINGS),
        free=True,
    )
    class_weights: str | None = cli_flag(
        None,
        "How much each class counts in the loss: numbers in the order of the labels with commas "
        "in between, or 'balanced' for the inverse of their frequency.",
    )
    label_smoothing: float = cli_flag(
        0.0, "The share of each label that is spread over all classes in the loss."
    )
    num_seeds: int = cli_flag(
        1,
        "Train so many times, with --random_seed and the seeds that follow, each in "
        "<output_dir>/seed-<n>; report mean, deviation and the best, which is used from there.",
        free=True,
    )
    restart_on_collapse: bool = cli_flag(
        False,
        "Train again with the next seed if the model predicts one class and knows no more than "
        "how frequent the classes are.",
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_action()
        if self.window_stride is not None:
            self.require_positive("window_stride")
        if self.num_seeds < 1:
            raise ValueError(f"--num_seeds={self.num_seeds}: give 1 or more")
        if self.delimiter is not None and self.task_name.lower() != "csv":
            raise ValueError(
                f"--delimiter={self.delimiter} is for --task_name=csv, not {self.task_name}"
            )
        named_delimiter(self.delimiter)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"--label_smoothing={self.label_smoothing}: give 0, or a share below 1"
            )
        if self.export_precision != "float32" and self.long_text == "windows":
            raise ValueError(
                f"--export_precision={self.export_precision} is measured on texts of one row; not "
                "on --long_text=windows"
            )
        if self.several_runs and not (self.do_train and self.do_eval):
            raise ValueError(
                "--num_seeds and --restart_on_collapse compare what was trained; they need "
                "--do_train=true and --do_eval=true"
            )
        if self.several_runs and self.distribution_strategy in SEVERAL_PROCESSES:
            raise ValueError(
                "--num_seeds and --restart_on_collapse start one run after another, which several "
                f"processes (--distribution_strategy={self.distribution_strategy}) cannot; give "
                "each seed a command and an --output_dir of its own"
            )

    def check_inputs(self) -> None:
        """Check the task and that its files are there. Raises ValueError."""
        super().check_inputs()
        task = sentence_data.task_of(self)
        self.check_files(lambda split: task.files(self.data_dir, split)[0])

    @property
    def several_runs(self) -> bool:
        """Whether there may be more than one training run."""
        return self.num_seeds > 1 or self.restart_on_collapse

    def check_own_file_flags_unused(self) -> None:
        """Raises ValueError if a flag is set that a task in a published layout does not read."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["help"].startswith(_OWN_FILES) and value != field.default:
                raise ValueError(
                    f"--{field.name}={value} is for your own files (--task_name=csv, tsv or "
                    f"jsonl); --task_name={self.task_name} knows its columns: leave it out"
                )
