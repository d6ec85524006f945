"""Flags of `run_tagger.py`. Without TensorFlow."""

from __future__ import annotations

import dataclasses
import math

from bert_tf.data.tag_schemes import SCHEMES
from bert_tf.data.tagging import KINDS, half_window
from bert_tf.run_config import RunConfig, cli_flag, shared_flag

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
class TaggingConfig(RunConfig):
    """One run of the tagger: its data and what to do with it."""

    task_name: str = cli_flag(
        None,
        "The form of the files: a word a line in columns (conll), a sentence a line in two columns "
        "(tsv), or texts with entities by characters (jsonl; cluener for that data set's form).",
        choices=KINDS,
        required=True,
    )
    data_dir: str = cli_flag(
        None,
        "Folder of train, dev and test, called .conll or .txt (conll), .tsv, .jsonl, or .json "
        "(cluener).",
        required=True,
        free=True,
    )
    word_column: int = cli_flag(
        0, "conll: the column of the word, counted from 0, or from the end below 0."
    )
    tag_column: int = cli_flag(-1, "conll: the column of the tag; -1 is the last.")
    text_column: str | None = cli_flag(
        None, "tsv, jsonl: the column of the text; by default the first one of tsv, else 'text'."
    )
    label_column: str = cli_flag("label", "tsv, jsonl: the column of the tags or the entities.")
    tag_scheme: str | None = cli_flag(
        None,
        "conll, tsv: how tags mark entities; none makes each tag a class of its own, as parts of "
        "speech. By default the training file tells.",
        choices=SCHEMES,
    )
    labels: str | None = cli_flag(
        None,
        "The model's labels in the order of their ids, with commas in between; entities have them "
        "in IOB2: O,B-PER,I-PER. By default those of the training file.",
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
    skip_bad_rows: bool = cli_flag(
        False, "Leave out sentences that cannot be used, and list them, instead of stopping."
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
        names = self.label_list()
        if names is not None and (len(set(names)) < max(2, len(names)) or not all(names)):
            raise ValueError(
                f"--labels={self.labels}: give two or more different labels with commas in "
                "between, such as --labels=O,B-PER,I-PER"
            )
        for field in dataclasses.fields(self):
            kinds, value = _FOR.get(field.name, KINDS), getattr(self, field.name)
            if self.task_name not in kinds and value != field.default:
                raise ValueError(
                    f"--{field.name}={value} is for --task_name={' or '.join(kinds)}; "
                    f"--task_name={self.task_name} does not read it: leave it out"
                )

    def label_list(self) -> list[str] | None:
        """The labels, or None where the flag is left out."""
        return None if self.labels is None else [name.strip() for name in self.labels.split(",")]

    @property
    def stride(self) -> int:
        """`doc_stride`, or its default."""
        return self.doc_stride or half_window(self.max_seq_length)
