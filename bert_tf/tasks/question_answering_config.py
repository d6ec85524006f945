"""Flags of `run_squad.py`: those of google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses

from bert_tf.data.squad_answers import AnswerSettings
from bert_tf.data.squad_windows import WindowSettings
from bert_tf.run_config import RunConfig, cli_flag, shared_flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionAnsweringConfig(RunConfig):
    """One run of question answering: its files, how passages are cut and answers chosen."""

    train_file: str | None = cli_flag(
        None,
        "Questions to train on, in the form of SQuAD 1.1 or 2.0, CMRC2018, DRCD or XQuAD.",
        free=True,
    )
    predict_file: str | None = cli_flag(
        None,
        "Questions to answer, in the same forms; with --do_eval their answers must be there.",
        free=True,
    )
    do_eval: bool = shared_flag("do_eval", help="Score the answers to --predict_file.")
    do_predict: bool = shared_flag("do_predict", help="Write the answers to --predict_file.")
    max_seq_length: int = shared_flag(
        "max_seq_length",
        default=384,
        help="Longest input in word pieces; longer passages are cut into several windows.",
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
