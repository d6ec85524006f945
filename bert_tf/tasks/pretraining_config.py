"""Flags of `run_pretraining.py`: those of google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from bert_tf import filesystem
from bert_tf.checkpoints import given
from bert_tf.data.corpora import find_files
from bert_tf.run_config import TrainingConfig, cli_flag, shared_flag

_PHASE_2 = "Second phase:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingConfig):
    """One run of pre-training: its rows, how long, and in which phases."""

    do_predict: ClassVar[bool] = False  # there is nothing to predict

    input_file: str = cli_flag(
        None,
        "TFRecord files of create_pretraining_data.py: names or patterns, with commas in between.",
        required=True,
        free=True,
    )
    eval_input_file: str | None = cli_flag(
        None, "Files of the same kind to evaluate on; by default --input_file.", free=True
    )
    do_train: bool = shared_flag("do_train", help="Train on --input_file.")
    do_eval: bool = shared_flag("do_eval", help="Evaluate on --eval_input_file.")
    max_seq_length: int = shared_flag("max_seq_length", help="Length of the rows in the files.")
    max_predictions_per_seq: int = cli_flag(20, "Most masked pieces in a row of the files.")
    num_train_steps: int = cli_flag(100000, "Training steps, of all phases together.")
    num_warmup_steps: int = cli_flag(
        10000, "Steps in which the learning rate grows from zero, the first ones."
    )
    max_eval_steps: int = cli_flag(
        100, "Most batches of --eval_batch_size to evaluate on.", free=True
    )
    next_sentence: bool = cli_flag(
        True,
        "Learn also whether the second part of a row follows the first. Turn it off for rows of "
        "--sentence_pairs=none; the model then has no pooler.",
    )
    dynamic_masking: bool = cli_flag(
        False,
        "The rows are not masked yet (create_pretraining_data.py --dynamic_masking=true): draw "
        "their masks anew in every epoch.",
    )
    masked_lm_prob: float = cli_flag(0.15, "Share of the pieces that --dynamic_masking masks.")
    packing: bool = cli_flag(
        False,
        "Put the texts of a batch into as few rows as they fit into, each seeing itself only: the "
        "same losses with less padding.",
    )
    phase2_input_file: str | None = cli_flag(
        None, f"{_PHASE_2} files with longer rows, as --input_file.", free=True
    )
    phase2_num_train_steps: int = cli_flag(
        0, f"{_PHASE_2} so many of --num_train_steps, the last ones, are done on its files."
    )
    phase2_max_seq_length: int = cli_flag(512, f"{_PHASE_2} length of the rows.")
    phase2_max_predictions_per_seq: int = cli_flag(
        80, f"{_PHASE_2} most masked pieces in a row of its files."
    )
    phase2_train_batch_size: int | None = cli_flag(
        None, f"{_PHASE_2} examples in one step; by default --train_batch_size."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("num_train_steps", "max_eval_steps", "max_predictions_per_seq")
        if not (self.do_train or self.do_eval or self.export_dir is not None):
            raise ValueError("At least one of `do_train` or `do_eval` must be True.")
        if self.num_warmup_steps < 0:
            raise ValueError(f"--num_warmup_steps={self.num_warmup_steps}: give 0 or more")
        if not 0 < self.masked_lm_prob < 1:
            raise ValueError(f"--masked_lm_prob={self.masked_lm_prob}: give a share below 1")
        tpu = self.use_tpu or self.distribution_strategy == "tpu"
        if self.packing and (self.use_xla or tpu or self.pad_to_max_seq_length):
            raise ValueError(
                "--packing makes batches of few or many rows; leave it out with --use_tpu, "
                "--use_xla and --pad_to_max_seq_length, which need one shape"
            )
        if self.packing:
            object.__setattr__(self, "use_xla", False)  # on GPUs too
        self._check_phase_2()

    def check_inputs(self) -> None:
        given.check(self)
        for flag, files in self.files():
            if not any(map(filesystem.is_remote, files.split(","))):
                find_files(files, flag)

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield the flags that name rows, and their values."""
        for flag in ("input_file", "eval_input_file", "phase2_input_file"):
            if value := getattr(self, flag):
                yield flag, value

    def _check_phase_2(self) -> None:
        steps = self.phase2_num_train_steps
        if bool(self.phase2_input_file) != (steps > 0):
            raise ValueError(
                f"--phase2_input_file={self.phase2_input_file} and --phase2_num_train_steps="
                f"{steps} go together: give both, or leave both out"
            )
        names = ("phase2_max_predictions_per_seq", "phase2_train_batch_size")
        self.require_positive(*(name for name in names if getattr(self, name) is not None))
        if self.phase2_max_seq_length < 3:
            raise ValueError(
                f"--phase2_max_seq_length={self.phase2_max_seq_length}: give 3 or more"
            )
        if not 0 <= steps < self.num_train_steps:
            raise ValueError(
                f"--phase2_num_train_steps={steps}: give fewer than --num_train_steps="
                f"{self.num_train_steps}, of which they are the last"
            )

    def phase_2(self) -> PretrainingConfig:
        """The flags as they are in the second phase."""
        return dataclasses.replace(
            self,
            input_file=self.phase2_input_file or self.input_file,
            max_seq_length=self.phase2_max_seq_length,
            max_predictions_per_seq=self.phase2_max_predictions_per_seq,
            train_batch_size=self.phase2_train_batch_size or self.train_batch_size,
            phase2_input_file=None,
            phase2_num_train_steps=0,
        )
