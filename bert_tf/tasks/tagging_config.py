"""Flags of `run_tagger.py`. Without TensorFlow."""

from __future__ import annotations

import dataclasses
import math

from bert_tf.data.entity_spans import LABEL_COLUMN
from bert_tf.data.tag_schemes import SCHEMES
from bert_tf.data.tagging import KINDS, TaggingTask, half_window
from bert_tf.run_config import cli_flag, shared_flag
from bert_tf.tasks.dataset_config import DatasetConfig

# Flags that only some kinds of files need -> these kinds.
_FOR = {
    "word_column": ("conll",),
    "tag_column": ("conll",),
    "tag_scheme": ("conll", "tsv"),
    "text_column": ("tsv", "jsonl", "cluener"),
    "label_column": ("tsv", "jsonl", "cluener"),
}
_CRF_MULTIPLIER = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggingConfig(DatasetConfig):
    """One run of the tagger: its data and what to do with it."""

    task_name: str = cli_flag(
        None,
        "The form of the files: a word a line in columns (conll), a sentence a line in two columns "
        "(tsv), or texts with entities by characters (jsonl; cluener for that data set's form).",
        choices=KINDS,
        required=True,
    )
    data_dir: str = shared_flag(
        "data_dir",
        DatasetConfig,
        help="Folder of train, dev and test, called .conll or .txt (conll; eng.train, eng.testa "
        "and eng.testb as well), .tsv, .jsonl, or .json (cluener).",
    )
    word_column: int = cli_flag(
        0, "conll: the column of the word, counted from 0, or from the end below 0."
    )
    tag_column: int = cli_flag(-1, "conll: the column of the tag; -1 is the last.")
    text_column: str | None = cli_flag(
        None, "tsv, jsonl: the column of the text; by default the first one of tsv, else 'text'."
    )
    label_column: str = cli_flag(
        LABEL_COLUMN,
        "tsv, jsonl: the column of the tags or the entities; in jsonl also labels or entities, "
        "where a row has that instead.",
    )
    tag_scheme: str | None = cli_flag(
        None,
        "conll, tsv: how tags mark entities; none makes each tag a class of its own, as parts of "
        "speech. By default the training file tells.",
        choices=SCHEMES,
    )
    labels: str | None = shared_flag(
        "labels",
        DatasetConfig,
        help="The model's labels in the order of their ids, with commas in between; entities have "
        "them in IOB2: O,B-PER,I-PER. By default those of the training file.",
    )
    max_seq_length: int = shared_flag(
        "max_seq_length",
        help="Longest input in word pieces, [CLS] and [SEP] included; longer sentences become "
        "several windows that overlap.",
    )
    doc_stride: int | None = cli_flag(
        None,
        "Pieces between the starts of two windows of a long sentence; by default half a window.",
    )
    use_crf: bool = cli_flag(
        False,
        "Put a linear-chain CRF on top, which learns what tags follow each other. A model that is "
        "only used has one if it was trained with one.",
    )
    crf_learning_rate_multiplier: float = cli_flag(
        _CRF_MULTIPLIER,
        "With --use_crf, how many times --learning_rate the CRF's own scores learn by: they begin "
        "at 0, and at the rate that suits the encoder they hardly move.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_action()
        if self.doc_stride is not None and self.doc_stride < 1:
            raise ValueError(f"--doc_stride={self.doc_stride}: give 1 or more")
        if not 0 < self.crf_learning_rate_multiplier < math.inf:
            raise ValueError(
                f"--crf_learning_rate_multiplier={self.crf_learning_rate_multiplier}: give a "
                "number above 0"
            )
        if not self.use_crf and self.crf_learning_rate_multiplier != _CRF_MULTIPLIER:
            raise ValueError(
                f"--crf_learning_rate_multiplier={self.crf_learning_rate_multiplier} needs "
                "--use_crf=true"
            )
        self.label_list()  # which says what is wrong with --labels
        for field in dataclasses.fields(self):
            kinds, value = _FOR.get(field.name, KINDS), getattr(self, field.name)
            if self.task_name not in kinds and value != field.default:
                raise ValueError(
                    f"--{field.name}={value} is for --task_name={' or '.join(kinds)}; "
                    f"--task_name={self.task_name} does not read it: leave it out"
                )

    def check_inputs(self) -> None:
        """Check that the files are there. Raises ValueError."""
        super().check_inputs()
        task = self.task()
        self.check_files(lambda split: task.path(self.data_dir, split))

    def task(self) -> TaggingTask:
        """Return how the files are laid out, as the flags say."""
        return TaggingTask(
            self.task_name,
            self.word_column,
            self.tag_column,
            self.text_column,
            self.label_column,
            self.tag_scheme,
            encoding=self.encoding,
        )

    @property
    def stride(self) -> int:
        """`doc_stride`, or its default."""
        return self.doc_stride or half_window(self.max_seq_length)
