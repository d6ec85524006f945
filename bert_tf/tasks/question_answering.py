"""Finding the answer to a question in a passage: what `run_squad.py` does, importable.

`run(config)` trains, evaluates, predicts and exports, and writes into output_dir

    train|eval.tf_record      the windows, as google-research/bert writes them
    model.ckpt-N              training checkpoints; `final_model/` the weights alone
    eval_results.txt          the scores; metrics.json has every number
    predictions.json          Google's predictions, with nbest_predictions.json and, where
                              questions may have no answer, null_odds.json

Shape letters: W windows of all questions, F max_seq_length.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bert_tf import checkpoints, filesystem, heads, run_folder
from bert_tf.checkpoints.location import TASK_FILE
from bert_tf.data import records, squad, squad_answers, squad_windows
from bert_tf.data.records import RecordFile
from bert_tf.data.squad_answers import Answers
from bert_tf.data.squad_training import training_windows
from bert_tf.data.squad_windows import Windows
from bert_tf.export import export_model
from bert_tf.export import question_answering as export_question_answering
from bert_tf.export.precision import DevSet
from bert_tf.graph_sentencepiece_offsets import check_offsets
from bert_tf.tasks import objectives, pretrained, question_answering_report, result_files
from bert_tf.tasks.program import Program, Scores, join
from bert_tf.tasks.question_answering_config import QuestionAnsweringConfig
from bert_tf.training import Objective

_THRESHOLD = "null_score_diff_threshold"


def run(config: QuestionAnsweringConfig) -> dict[str, Any]:
    """Trains, evaluates, predicts and exports, as the flags say.

    Returns:
      What was written: `metrics` (the content of metrics.json), and the paths `final_model`,
      `eval_results`, `report`, `predictions`, `nbest_predictions`, `null_odds`, `export`, each
      where it was made.

    Raises:
      ValueError: flags, files or checkpoint that do not fit together; the message says how to
        mend it.
      FloatingPointError: the loss became infinite or not a number.
    """
    return QuestionAnswering(config).run()


class Logits(NamedTuple):
    """Scores of the first and the last position of an answer, float32 [W, F]; -inf where none."""

    start: np.ndarray
    end: np.ndarray


class QuestionAnswering(Program[QuestionAnsweringConfig]):
    """Of a question and a passage: the part of the passage that answers, or that none does."""

    head = "head for question answering (cls/squad)"

    def prepare(self) -> None:
        self.threshold = self._threshold()

    def read_inputs(self) -> None:
        self.config.check_questions()
        if self.config.needs_predict_set and not len(self._windows):
            raise ValueError(f"--predict_file={self.config.predict_file}: all passages are empty")

    def _threshold(self) -> float:
        """Of the null odds: given, or saved beside a model that is used or continued, or 0."""
        if self.config.null_score_diff_threshold is not None:
            return self.config.null_score_diff_threshold
        used = self.manager.latest() or (None if self.config.do_train else self.source)
        task = (checkpoints.saved_task(used) if used else None) or {}
        threshold = task.get(_THRESHOLD, 0.0)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise ValueError(f"{TASK_FILE} of {used}: {_THRESHOLD} is no number: {threshold!r:.40}")
        return float(threshold)

    def description(self) -> dict[str, Any]:
        config = self.config
        task: dict[str, Any] = {
            "task_type": "question_answering",
            "max_seq_length": config.max_seq_length,
            "doc_stride": config.doc_stride,
            "max_query_length": config.max_query_length,
            "max_answer_length": config.max_answer_length,
            "version_2_with_negative": config.version_2_with_negative,
        }
        return task | ({_THRESHOLD: self.threshold} if config.version_2_with_negative else {})

    def build_model(self) -> keras.Model:
        if self.bert_config.type_vocab_size < 2:
            raise ValueError(
                "this model has one segment type (type_vocab_size=1), so it cannot tell question "
                "and passage apart; use another checkpoint"
            )
        if self.config.export_dir:
            check_offsets(self.tokenizer)  # before it is trained in vain
        return heads.span(self.bert_config)

    def objective(self) -> Objective:
        return objectives.span(self.config.google_exact)

    # --------------------------------------------------------------------------------- data

    def training_files(self) -> Mapping[str, Sequence[str]]:
        return {"the training data": [self.config.train_file]}

    def training_rows(self) -> tuple[RecordFile, int]:
        """The windows, and how many rows an epoch has: see --epoch_unit."""
        config = self.config
        windows, counts = training_windows(
            config.train_set,
            self.tokenizer,
            config.window_settings(),
            config.version_2_with_negative,
        )
        numbers = dataclasses.asdict(counts) | {"windows": len(windows)}
        print(f"train: {counts}; {len(windows):,} windows of their passages", flush=True)
        self.metrics.setdefault("data", {})["train"] = numbers
        epoch = counts.used if config.epoch_unit == "questions" else len(windows)
        if epoch < len(windows):
            passes = config.num_train_epochs * epoch / len(windows)
            print(
                f"--num_train_epochs={config.num_train_epochs:g} counts {epoch} questions, as "
                f"Google's program does: {passes:.2f} passes over the {len(windows)} windows. "
                "--epoch_unit=windows counts windows.",
                flush=True,
            )
        return self._records("train", windows), epoch

    def _records(self, name: str, windows: Windows) -> RecordFile:
        """The rows of the windows, written anew on every run, as Google's."""
        path = self.path(f"{name}.tf_record")
        training = windows.positions is not None
        spec = records.span_spec(self.config.max_seq_length, training)
        records.write(path, windows.rows(), spec)
        return RecordFile(path, spec)

    @functools.cached_property
    def _windows(self) -> Windows:
        """Of --predict_file."""
        return squad_windows.build(
            self.config.predict_set.questions, self.tokenizer, self.config.window_settings()
        )

    @functools.cached_property
    def _rows(self) -> RecordFile:
        return self._records("eval", self._windows)

    # --------------------------------------------------------------------------- evaluation

    @property
    def decisive(self) -> str:
        return "f1"

    def _logits(self, batch_size: int, description: str) -> Logits:
        """What the model, as it is, says of all windows of --predict_file."""
        found = self.loop.forward(self._rows, batch_size, description)
        return self._whole(results for _, results in found)

    def _whole(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Logits:
        """Those of batches, in which rows are cut, together."""
        shape = len(self._rows), self.config.max_seq_length
        logits = Logits(*(np.full(shape, -np.inf, np.float32) for _ in range(2)))
        row = 0
        for results in batches:
            for whole, name in zip(logits, ("start_logits", "end_logits"), strict=True):
                count, length = results[name].shape
                whole[row : row + count, :length] = results[name]
            row += count
        return logits

    @functools.cached_property
    def _final_logits(self) -> Logits:
        """Of the model that was trained or loaded; computed once for evaluation and prediction."""
        config = self.config
        if config.do_eval:
            return self._logits(config.eval_batch_size, "eval")
        return self._logits(config.predict_batch_size, "predict")

    def _answers(self, logits: Logits, threshold: float) -> Answers:
        settings = self.config.answer_settings(threshold)
        return squad_answers.extract(self._windows, *logits, settings)

    def _scored(self, logits: Logits) -> tuple[dict[str, float], float]:
        """The scores, and the threshold that they are for: the given one, or the best."""
        dataset, threshold = self.config.predict_set, self.threshold
        answers = self._answers(logits, threshold)
        best: dict[str, float] = {}
        if self.config.version_2_with_negative and squad.scorer_for(dataset) == "squad2.0":
            scores = squad.scores(dataset, answers.best_texts, answers.null_odds)
            best = {name: scores[name] for name in scores if name.startswith("best_")}
            if self.config.null_score_diff_threshold is None:
                threshold = best["best_f1_thresh"]
                answers = self._answers(logits, threshold)
            best[_THRESHOLD] = threshold
        scores = squad.scores(dataset, answers.predictions)
        names = {"exact_match": "exact", "EM": "exact", "F1": "f1"}
        renamed = {names.get(name, name): value for name, value in scores.items()}
        wanted = [n for n in renamed if n in ("exact", "f1") or n.startswith(("HasAns_", "NoAns_"))]
        return {name: float(renamed[name]) for name in wanted} | best, threshold

    def dev_scores(self) -> Scores:
        scores, _ = self._scored(self._logits(self.config.eval_batch_size, "eval"))
        return scores

    def evaluate(self) -> None:
        scores, self.threshold = self._scored(self._final_logits)
        if _THRESHOLD in scores and self.config.null_score_diff_threshold is None:
            self._save_threshold()
        counts = {"examples": len(self.config.predict_set.questions), "windows": len(self._windows)}
        self.metrics["eval"] = counts | scores
        text = result_files.eval_results(scores | {"global_step": self.metrics["global_step"]})
        self.write("eval_results", "eval_results.txt", text, [self.config.predict_file])
        print(f"***** Eval results *****\n{text}", end="", flush=True)
        self._look_closer(scores)

    def _look_closer(self, scores: Mapping[str, float]) -> None:
        """Find out whether the model has learnt anything, and what the report says of it."""
        dataset = self.config.predict_set
        predictions = self._answers(self._final_logits, self.threshold).predictions
        self.tell_collapse(question_answering_report.collapse(dataset, predictions))
        self.findings.evaluated = f"{len(dataset.questions):,} questions"
        self.findings.details = question_answering_report.sections(dataset, predictions, scores)

    def _save_threshold(self) -> None:
        """Into the descriptions of the models of this run."""
        folder = self.config.output_dir
        for path in (self.path(TASK_FILE), join(folder, pretrained.FINAL_MODEL, TASK_FILE)):
            if filesystem.is_file(path):
                run_folder.write_json(path, self.description())

    # --------------------------------------------------------------------------- prediction

    def predict(self) -> None:
        answers = self._answers(self._final_logits, self.threshold)
        files = {"predictions": answers.predictions, "nbest_predictions": answers.nbest}
        if self.config.version_2_with_negative:
            files["null_odds"] = answers.null_odds
        for name, content in files.items():
            text = squad_answers.to_json(content)
            self.write(name, f"{name}.json", text, [self.config.predict_file])
        self.metrics["predict"] = {
            "examples": len(self.config.predict_set.questions),
            "windows": len(self._windows),
            "without_answer": sum(not text for text in answers.predictions.values()),
        }

    def export(self) -> None:
        config = self.config
        servable = export_question_answering.QuestionAnswering(
            self.model,
            self.bert_config,
            self.tokenizer,
            config.window_settings(),
            config.max_answer_length,
            self.threshold if config.version_2_with_negative else None,
        )
        questions = self.config.predict_set.questions[:32] if config.predict_file else []
        samples = [(question.text, question.passage.text) for question in questions]
        settings = config.export_dir, samples, self.run_dir, config.export_precision
        self.written["export"] = export_model(servable, *settings, self._dev_set)

    def _dev_set(self) -> DevSet:
        """What an export in another precision than float32 is measured by."""

        mask = self._rows.batch(np.arange(len(self._rows)))["input_mask"] > 0

        def scores(answers: list[dict[str, np.ndarray]]) -> dict[str, float]:
            found = self._whole(answers)
            logits = Logits(*(np.where(mask, x, np.float32(-np.inf)) for x in found))
            return self._scored(logits)[0]

        return DevSet(self._rows, scores)
