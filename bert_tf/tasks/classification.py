"""Sentence classification and regression: what `run_classifier.py` does, importable.

`run(config)` trains, evaluates, predicts and exports, and writes into output_dir

    train|eval|predict.tf_record   the features, as google-research/bert writes them
    model.ckpt-N                   training checkpoints; `final_model/` the weights alone
    eval_results.txt               Google's evaluation file; metrics.json has every number
    test_results.tsv               Google's predictions; predictions.tsv has ids and labels
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_tf import checkpoints, export, heads
from bert_tf.data import delimited, glue
from bert_tf.data.examples import SPLITS, InputExample, SentenceTask
from bert_tf.data.records import RecordFile
from bert_tf.tasks import feature_files, objectives, result_files
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.program import Program, Scores
from bert_tf.training import Objective


def run(config: ClassificationConfig) -> dict[str, Any]:
    """Trains, evaluates, predicts and exports, as the flags say.

    Returns:
      What was written: `metrics` (the content of metrics.json), and the paths `final_model`,
      `eval_results`, `test_results`, `predictions`, `export`, each where it was made.

    Raises:
      ValueError: flags, files or checkpoint that do not fit together; the message says how to
        mend it.
      FloatingPointError: the loss became infinite or not a number.
    """
    return Classifier(config).run()


class Classifier(Program[ClassificationConfig]):
    """Of one text or a pair: classes, or a number."""

    def prepare(self) -> None:
        self.task, self.labels = self._task()
        self.regression = self.task.regression
        count, task_name = len(self.labels) or "numeric", self.config.task_name
        self.head = f"classifier for the {count} labels of --task_name={task_name}"
        self.metrics["task_name"] = task_name

    def build_model(self) -> keras.Model:
        return heads.classifier(self.bert_config, num_labels=len(self.labels) or 1)

    def objective(self) -> Objective:
        return objectives.sequence(self.regression)

    def _task(self) -> tuple[SentenceTask, list[str]]:
        """The task and its labels in the order of the model's ids.

        A model that is only used has the labels, and their order, that it was trained with.
        """
        config, kind = self.config, self.config.task_name.lower()
        used = self.source is not None and not config.do_train
        known = checkpoints.saved_labels(self.source) if used else None
        if kind not in delimited.KINDS:
            config.check_own_file_flags_unused()
            task = glue.find(config.task_name)
        else:
            task = delimited.DelimitedTask(
                kind=kind,
                text_a_column=config.text_a_column,
                text_b_column=config.text_b_column,
                label_column=config.label_column,
                id_column=config.id_column,
                problem_type=config.problem_type,
            )
            if not task.regression:
                # Found once here; without a training file they are what the model knows.
                use_known = known and not task.has(config.data_dir, "train")
                found = known if use_known else task.labels(config.data_dir)
                task = dataclasses.replace(task, classes=tuple(found))
        labels = task.labels(config.data_dir)
        if known and sorted(known) != sorted(labels):
            raise ValueError(
                f"{self.source} was trained for the labels {known}, but --task_name="
                f"{config.task_name} has {labels}; give the data it was trained for"
            )
        return task, known or labels

    def _examples(self, split: str) -> list[InputExample]:
        examples = self.task.examples(self.config.data_dir, split)
        if self.bert_config.type_vocab_size < 2 and any(e.text_b for e in examples):
            raise ValueError(
                "this model has one segment type (type_vocab_size=1), so it cannot tell the two "
                f"sentences of --task_name={self.config.task_name} apart; use another checkpoint"
            )
        return examples

    def _records(self, examples: Sequence[InputExample], name: str) -> RecordFile:
        config = self.config
        return feature_files.write(
            config.output_dir, name, examples, self.tokenizer, self.labels, config.max_seq_length
        )

    @functools.cached_property
    def _training_examples(self) -> list[InputExample]:
        return self._examples("train")

    def count_training_examples(self) -> int:
        return len(self._training_examples)

    def training_rows(self) -> RecordFile:
        return self._records(self._training_examples, "train")

    def training_files(self) -> Mapping[str, Sequence[str]]:
        return {"the training data": self.task.files(self.config.data_dir, "train")}

    @functools.cached_property
    def _dev(self) -> tuple[RecordFile, list[InputExample]]:
        examples = self._examples("dev")
        return self._records(examples, "eval"), examples

    @property
    def decisive(self) -> str:
        return self.task.metric.primary

    def dev_scores(self) -> Scores:
        """Loss and the task's metrics."""
        rows, examples = self._dev
        size = self.config.eval_batch_size
        results = [r for _, r in self.loop.forward(rows, size, "evaluate")]
        losses = np.concatenate([r["loss"] for r in results])
        outputs = np.concatenate([r["scores"] for r in results])
        if self.regression:
            expected = np.array([float(e.label) for e in examples])
            predicted = outputs[:, 0]
        else:
            expected = np.array([self.labels.index(e.label) for e in examples])
            predicted = outputs.argmax(axis=-1)
        return {
            "eval_loss": np.mean(losses, dtype=np.float32),
            # Google's `loss`: the mean over batches, in which a short last batch weighs as much.
            "loss": np.mean([r["loss"].mean() for r in results], dtype=np.float32),
            **self.task.metric.compute(expected, predicted),
        }

    def evaluate(self) -> None:
        scores = self.dev_scores()
        counts = {"examples": len(self._dev[1])}
        self.metrics["eval"] = counts | {name: float(x) for name, x in scores.items()}
        names = ("accuracy",) if not self.regression else ("pearson", "spearman")
        values = {f"eval_{name}": np.float32(scores[name]) for name in names}
        values |= {"eval_loss": scores["eval_loss"], "loss": scores["loss"]}
        text = result_files.eval_results(values | {"global_step": self.metrics["global_step"]})
        self.write("eval_results", "eval_results.txt", text)
        print("***** Eval results *****\n" + text, end="", flush=True)

    def predict(self) -> None:
        examples = self._examples("test")
        rows = self._records(examples, "predict")
        size = self.config.predict_batch_size
        outputs = np.concatenate([r["scores"] for _, r in self.loop.forward(rows, size, "predict")])
        self.write("test_results", "test_results.tsv", result_files.test_results(outputs))
        table = result_files.predictions(examples, outputs, self.labels)
        self.write("predictions", "predictions.tsv", table)
        self.metrics["predict"] = {"examples": len(rows)}

    def export(self) -> None:
        config = self.config
        there = (s for s in SPLITS if self.task.has(config.data_dir, s))
        split = next(there, None)
        examples = self._examples(split)[:32] if split else []
        self.written["export"] = export.export_classifier(
            self.model,
            config=self.bert_config,
            vocab_file=self.tokenizer.vocab_file,
            do_lower_case=self.tokenizer.do_lower_case,
            max_seq_length=config.max_seq_length,
            label_list=self.labels,
            export_dir=config.export_dir,
            samples=[(e.text_a, e.text_b) for e in examples],
            regression=self.regression,
        )
        print(f"Exported and verified: {self.written['export']}", flush=True)
