"""Sentence classification and regression: what `run_classifier.py` does, importable.

`run(config)` trains, evaluates, predicts and exports, and writes into output_dir

    train|eval|predict.tf_record   the features, as google-research/bert writes them
    model.ckpt-N                   training checkpoints; `final_model/` the weights alone
    eval_results.txt               Google's evaluation file; metrics.json has every number
    test_results.tsv               Google's predictions; predictions.tsv has ids and labels
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from bert_tf import checkpoints, distribution, export, filesystem, heads, run_folder, training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.data import delimited, glue
from bert_tf.data.examples import SPLITS, InputExample, SentenceTask
from bert_tf.data.records import RecordFile
from bert_tf.tasks import feature_files, objectives, pretrained, result_files
from bert_tf.tasks.classification_config import ClassificationConfig

join = tf.io.gfile.join


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


class Classifier:
    """One run: the parts that flags choose, and the steps that use them."""

    def __init__(self, config: ClassificationConfig):
        self.config = config
        filesystem.make_dir(config.output_dir)
        self.manager = CheckpointManager(config.output_dir)
        # What is evaluated, used or continued: the latest of this run, else what it starts from.
        self.source = self.manager.latest() or config.init_checkpoint
        self.task, self.labels = self._task()
        self.bert_config, self.tokenizer = pretrained.architecture(config, self.source)
        self.regression = self.task.regression
        self.metrics: dict[str, Any] = {"task_name": config.task_name}
        self.written: dict[str, Any] = {}
        keras.utils.set_random_seed(config.random_seed)
        self.strategy = distribution.create_strategy(config)
        with self.strategy.scope(), distribution.precision_policy(config.precision):
            self.model = heads.classifier(self.bert_config, num_labels=len(self.labels) or 1)
        objective = objectives.sequence(self.regression)
        self.loop = training.Loop(config, self.model, objective, self.strategy)

    def run(self) -> dict[str, Any]:
        config = self.config
        if config.do_train:
            self.train()
        else:
            self.restore()
        if config.do_eval:
            self.evaluate()
        if config.do_predict:
            self.predict()
        if config.export_dir:
            self.export()
        metrics = run_folder.merge_json(join(config.output_dir, "metrics.json"), self.metrics)
        return self.written | {"metrics": metrics}

    # -------------------------------------------------------------------------------- parts

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

    # -------------------------------------------------------------------------------- steps

    def train(self) -> None:
        config = self.config
        examples = self._examples("train")
        steps = int(len(examples) / config.train_batch_size * config.num_train_epochs)
        if steps < 1:
            raise ValueError(
                f"{len(examples)} training examples, --train_batch_size={config.train_batch_size} "
                f"and --num_train_epochs={config.num_train_epochs} make no step; "
                "use a smaller batch"
            )
        if not self.manager.latest() and config.init_checkpoint:
            pretrained.load(self.model, config.init_checkpoint, config)
        self._claim_output_dir()
        rows = self._records(examples, "train")
        begun = time.monotonic()
        first = self.loop.train(
            rows, steps, int(steps * config.warmup_proportion), self.manager, self._judge()
        )
        if first < steps:
            seconds = round(time.monotonic() - begun, 1)
            counts = {"examples": len(rows), "steps": steps, "first_step": first}
            self.metrics["train"] = counts | {"seconds": seconds}
        self.metrics["global_step"] = steps
        self.metrics["best_checkpoint"] = self.manager.best()
        self.written["final_model"] = pretrained.save_final(
            self.model, config.output_dir, self.tokenizer, self.labels
        )

    def _claim_output_dir(self) -> None:
        config = self.config
        data = {
            "the training data": self.task.files(config.data_dir, "train"),
            "the vocabulary": [self.tokenizer.vocab_file],
        }
        model = {**self.bert_config.to_dict(), "do_lower_case": self.tokenizer.do_lower_case}
        run_folder.claim(config, model, data, started=self.manager.latest() is not None)
        self.manager.remove_stale()
        pretrained.save_description(
            config.output_dir, self.bert_config, self.tokenizer, self.labels
        )

    def _judge(self) -> Callable[[int], float] | None:
        """step -> the task's metric on the dev set; None unless it is asked for on the way."""
        if not self.config.eval_steps:
            return None
        rows, examples = self._dev()

        def judge(step: int) -> float:
            scores = self._scores(rows, examples)
            line = ", ".join(f"{name} {float(value):.4f}" for name, value in scores.items())
            tqdm.tqdm.write(f"step {step}: {line}")  # above the progress bar
            return scores[self.task.metric.primary]

        return judge

    def restore(self) -> None:
        """Loads the weights of a run that has been trained."""
        if self.source is None:
            raise ValueError(
                f"--output_dir={self.config.output_dir} holds no checkpoint; train first with "
                "--do_train=true, or give a fine-tuned --init_checkpoint"
            )
        loaded = pretrained.load(self.model, self.source, self.config)
        if len(loaded.loaded) < len(self.model.weights):
            raise ValueError(
                f"{self.source} holds no classifier for the {len(self.labels) or 'numeric'} labels "
                f"of --task_name={self.config.task_name}; train first with --do_train=true"
            )
        self.metrics["global_step"] = checkpoints.global_step(self.source)

    def _dev(self) -> tuple[RecordFile, list[InputExample]]:
        examples = self._examples("dev")
        return self._records(examples, "eval"), examples

    def _scores(self, rows: RecordFile, examples: Sequence[InputExample]) -> dict[str, float]:
        """Loss and the task's metrics over one split."""
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
        rows, examples = self._dev()
        scores = self._scores(rows, examples)
        self.metrics["eval"] = {"examples": len(rows)} | {k: float(v) for k, v in scores.items()}
        names = ("accuracy",) if not self.regression else ("pearson", "spearman")
        values = {f"eval_{name}": np.float32(scores[name]) for name in names}
        values |= {"eval_loss": scores["eval_loss"], "loss": scores["loss"]}
        text = result_files.eval_results(values | {"global_step": self.metrics["global_step"]})
        self._write("eval_results", "eval_results.txt", text)
        print("***** Eval results *****\n" + text, end="", flush=True)

    def predict(self) -> None:
        examples = self._examples("test")
        rows = self._records(examples, "predict")
        size = self.config.predict_batch_size
        outputs = np.concatenate([r["scores"] for _, r in self.loop.forward(rows, size, "predict")])
        self._write("test_results", "test_results.tsv", result_files.test_results(outputs))
        table = result_files.predictions(examples, outputs, self.labels)
        self._write("predictions", "predictions.tsv", table)
        self.metrics["predict"] = {"examples": len(rows)}

    def _write(self, name: str, file: str, text: str) -> None:
        self.written[name] = join(self.config.output_dir, file)
        run_folder.write_text(self.written[name], text)

    def export(self) -> None:
        config = self.config
        there = (s for s in SPLITS if self.task.has(config.data_dir, s))
        split = next(there, None)
        examples = self._examples(split)[:32] if split else []
        self.written["export"] = export.export_classifier(
            self.model,
            config=self.bert_config,
            tokenizer=self.tokenizer,
            max_seq_length=config.max_seq_length,
            label_list=self.labels,
            export_dir=config.export_dir,
            samples=[(e.text_a, e.text_b) for e in examples],
            regression=self.regression,
        )
        print(f"Exported and verified: {self.written['export']}", flush=True)
