"""Flags of `run_squad.py`: those of google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses
import functools

from bert_tf.checkpoints import given
from bert_tf.data import squad_files, squad_training
from bert_tf.data.squad_answers import AnswerSettings
from bert_tf.data.squad_files import Dataset
from bert_tf.data.squad_windows import WindowSettings
from bert_tf.run_config import RunConfig, cli_flag, shared_flag

EPOCH_UNITS = ("questions", "windows")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionAnsweringConfig(RunConfig):
    """One run of question answering: its files, how passages are cut and answers chosen."""

    train_file: str | None = cli_flag(
        None,
        "Questions to train on, in the form of SQuAD 1.1 or 2.0, CMRC2018, DRCD or XQuAD, or a "
        "question a row (.jsonl) as Hugging Face has it.",
        free=True,
    )
    predict_file: str | None = cli_flag(
        None,
        "Questions to answer, in the same forms. Their answers must be there for --do_eval, and "
        "may be missing for --do_predict.",
        free=True,
    )
    do_eval: bool = shared_flag("do_eval", help="Score the answers to --predict_file.")
    do_predict: bool = shared_flag("do_predict", help="Write the answers to --predict_file.")
    max_seq_length: int = shared_flag(
        "max_seq_length",
        default=384,
        help="Longest input in word pieces; longer passages are cut into several windows.",
    )
    num_train_epochs: float = shared_flag(
        "num_train_epochs",
        help="Passes over the training set. As in Google's program a pass has as many rows as "
        "there are questions. Where long passages make several windows a question, most windows "
        "are then seen less often than this; see --epoch_unit.",
    )
    epoch_unit: str = cli_flag(
        "questions",
        "Rows in one of --num_train_epochs: as many as there are questions, or all windows.",
        choices=EPOCH_UNITS,
    )
    doc_stride: int = cli_flag(128, "Pieces from the start of one window to that of the next.")
    max_query_length: int = cli_flag(64, "Longest question in pieces; the rest is cut off.")
    n_best_size: int = cli_flag(20, "Answers listed in nbest_predictions.json.", free=True)
    max_answer_length: int = cli_flag(30, "Longest answer in pieces.", free=True)
    version_2_with_negative: bool = cli_flag(
        False, "Some questions have no answer, as in SQuAD 2.0."
    )
    null_score_diff_threshold: float | None = cli_flag(
        None,
        "With --version_2_with_negative, a question has no answer if the score of none less that "
        "of the best one is above this. By default what --do_eval found to be best and saved "
        "beside the model, else 0.0.",
        free=True,
    )
    google_exact: bool = cli_flag(
        False,
        "Labels and answers exactly as google-research/bert's, its known mistakes included "
        '(README, "Where we differ").',
    )
    verbose_logging: bool = cli_flag(
        False,
        "With --google_exact, log every answer that is not found in the words of its passage.",
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_action()
        if self.google_exact:  # in whose answers padding takes part
            object.__setattr__(self, "pad_to_max_seq_length", True)
        self.window_settings()
        self.answer_settings(0.0)
        for action, file in (
            ("do_train", "train_file"),
            ("do_eval", "predict_file"),
            ("do_predict", "predict_file"),
        ):
            if getattr(self, action) and not getattr(self, file):
                raise ValueError(f"--{file} is needed: --{action}=true works on its questions")
        if self.export_precision != "float32" and not self.predict_file:
            raise ValueError(
                f"--export_precision={self.export_precision} is measured on --predict_file; give it"
            )
        threshold = self.null_score_diff_threshold
        if threshold is not None and not self.version_2_with_negative:
            raise ValueError(
                f"--null_score_diff_threshold={threshold} is for questions without an answer; "
                "it needs --version_2_with_negative=true"
            )

    @functools.cached_property
    def train_set(self) -> Dataset:
        """The questions of --train_file, read once."""
        return _read("train_file", self.train_file, to_train=True)

    @functools.cached_property
    def predict_set(self) -> Dataset:
        """The questions of --predict_file, read once."""
        return _read("predict_file", self.predict_file)

    def check_inputs(self) -> None:
        given.check(self)
        self.check_questions()

    def check_questions(self) -> None:
        """Read the files that the flags will need, and check that answers are where they must be.

        Raises:
          ValueError: a file cannot be read, or a question lacks its answer; the message names it.
        """
        if self.do_train:
            squad_training.check(self.train_set, self.version_2_with_negative, self.google_exact)
        for question in self.predict_set.questions if self.needs_predict_set else ():
            if self.do_eval and not question.answers and not question.is_impossible:
                raise ValueError(
                    f"{self.predict_file}: {question.place}: there is no answer to compare with; "
                    "for --do_eval=true give a file with answers"
                )

    @property
    def needs_predict_set(self) -> bool:
        """Whether --predict_file will be read: an export takes its first requests from it."""
        exported = self.export_dir is not None and self.predict_file is not None
        return self.do_eval or self.do_predict or exported

    def window_settings(self) -> WindowSettings:
        """How passages are cut. Raises ValueError for flags that do not fit together."""
        lengths = (self.max_seq_length, self.doc_stride, self.max_query_length)
        return WindowSettings(*lengths, self.google_exact)

    def answer_settings(self, threshold: float) -> AnswerSettings:
        """How answers are chosen, with this --null_score_diff_threshold."""
        return AnswerSettings(
            self.n_best_size,
            self.max_answer_length,
            self.version_2_with_negative,
            threshold,
            self.google_exact,
            self.verbose_logging,
        )


def _read(flag: str, path: str | None, to_train: bool = False) -> Dataset:
    if path is None:
        raise ValueError(f"--{flag} is needed")
    try:
        return squad_files.read(path, to_train)
    except ValueError as error:
        raise ValueError(f"--{flag}: {error}") from error
