"""Sentence classification and regression: what `run_classifier.py` does, importable.

`run(config)` trains, evaluates, predicts and exports, and writes into output_dir

    train|eval|predict.tf_record   the features, as google-research/bert writes them
    model.ckpt-N                   training checkpoints; `final_model/` the weights alone
    eval_results.txt               Google's evaluation file; metrics.json has every number
    test_results.tsv               Google's predictions; predictions.tsv has ids and labels
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from bert_tf import (
    checkpoints,
    distribution,
    export,
    filesystem,
    heads,
    run_folder,
    training,
)
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.data import delimited, glue, records
from bert_tf.data.examples import InputExample, SentenceTask, example_features
from bert_tf.tasks import pretrained, result_files
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


def objective(regression: bool) -> training.Objective:
    """Google's `create_model` loss: cross-entropy, or squared error for regression."""

    def per_example(outputs: training.Tensors, batch: training.Tensors) -> tf.Tensor:
        logits = tf.cast(outputs["logits"], tf.float32)  # [B, num_labels]
        if regression:
            return tf.square(logits[:, 0] - batch["label_ids"][:, 0])
        log_probs = tf.nn.log_softmax(logits, axis=-1)
        return -tf.gather(log_probs, batch["label_ids"][:, 0], axis=1, batch_dims=1)

    def results(outputs: training.Tensors, batch: training.Tensors) -> training.Tensors:
        logits = tf.cast(outputs["logits"], tf.float32)
        scores = logits if regression else tf.nn.softmax(logits, axis=-1)
        return {"scores": scores, "loss": per_example(outputs, batch)}

    def weights(batch: training.Tensors) -> tf.Tensor:
        return tf.cast(batch["is_real_example"][:, 0], tf.float32)

    return training.Objective(
        denominators=lambda batch: [tf.reduce_sum(weights(batch))],
        numerators=lambda outputs, batch: [
            tf.reduce_sum(weights(batch) * per_example(outputs, batch))
        ],
        results=results,
    )


class Classifier:
    """One run: the parts that flags choose, and the steps that use them."""

    def __init__(self, config: ClassificationConfig):
        self.config = config
        filesystem.make_dir(config.output_dir)
        self.task = self._task()
        self.labels = self.task.labels(config.data_dir)
        self.bert_config, self.tokenizer = pretrained.architecture(config)
        self.regression = self.task.regression
        self.manager = CheckpointManager(config.output_dir)
        self.report: dict[str, Any] = {"task_name": config.task_name}
        self.written: dict[str, Any] = {}
        keras.utils.set_random_seed(config.random_seed)
        self.strategy = distribution.create_strategy(config)
        with self.strategy.scope(), distribution.precision_policy(config.precision):
            self.model = heads.classifier(
                self.bert_config, num_labels=1 if self.regression else len(self.labels)
            )
        self.loop = training.Loop(config, self.model, objective(self.regression), self.strategy)

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
        path = join(config.output_dir, "metrics.json")
        run_folder.write_json(path, self.report)
        return self.written | {"metrics": self.report}

    # -------------------------------------------------------------------------------- parts

    def _task(self) -> SentenceTask:
        config = self.config
        kind = config.task_name.lower()
        if kind not in delimited.KINDS:
            return glue.find(config.task_name)
        task = delimited.DelimitedTask(
            kind=kind,
            text_a_column=config.text_a_column,
            text_b_column=config.text_b_column,
            label_column=config.label_column,
            id_column=config.id_column,
            problem_type=config.problem_type,
        )
        if config.do_train or task.has(config.data_dir, "train"):
            return task
        # The classes are those of the training file, which a trained model remembers.
        labels = pretrained.saved_labels(config.output_dir)
        return task if labels is None else dataclasses.replace(task, classes=tuple(labels))

    def _examples(self, split: str) -> list[InputExample]:
        return self.task.examples(self.config.data_dir, split)

    def _records(self, examples: Sequence[InputExample], name: str) -> records.RecordFile:
        """Writes `<name>.tf_record` (rewritten on every run, as Google's) and opens it."""
        config = self.config
        label_ids = None if self.regression else {label: i for i, label in enumerate(self.labels)}
        truncated = 0

        def features():
            nonlocal truncated
            for number, example in enumerate(examples):
                row, cut = example_features(
                    example, self.tokenizer, label_ids, config.max_seq_length
                )
                truncated += cut
                if number < 5:
                    self._log_example(example, row)
                yield row

        path = join(config.output_dir, f"{name}.tf_record")
        spec = records.classification_spec(config.max_seq_length, self.regression)
        records.write(path, features(), spec)
        share = 100 * truncated / len(examples)
        print(
            f"{name}: {len(examples)} examples, {truncated} ({share:.1f}%) truncated to "
            f"{config.max_seq_length} pieces",
            flush=True,
        )
        return records.RecordFile(path, spec)

    def _log_example(self, example: InputExample, row: dict[str, Any]) -> None:
        used = sum(row["input_mask"])
        logging.info("*** Example ***")
        logging.info("guid: %s", example.guid)
        logging.info(
            "tokens: %s", " ".join(self.tokenizer.convert_ids_to_tokens(row["input_ids"][:used]))
        )
        for name in ("input_ids", "input_mask", "segment_ids"):
            logging.info("%s: %s", name, " ".join(map(str, row[name])))
        logging.info("label: %s (id = %s)", example.label, row["label_ids"][0])

    # -------------------------------------------------------------------------------- steps

    def train(self) -> None:
        config = self.config
        examples = self._examples("train")
        data_files = {"the training data": self.task.files(config.data_dir, "train")}
        data_files["the vocabulary"] = [self.tokenizer.vocab_file]
        run_folder.claim(config, data_files)
        pretrained.save_description(
            config.output_dir, self.bert_config, self.tokenizer, self.labels
        )
        rows = self._records(examples, "train")
        steps = int(len(rows) / config.train_batch_size * config.num_train_epochs)
        if steps < 1:
            raise ValueError(
                f"{len(rows)} training examples, --train_batch_size={config.train_batch_size} and "
                f"--num_train_epochs={config.num_train_epochs} make no step; use a smaller batch"
            )
        if config.init_checkpoint and self.manager.latest() is None:
            pretrained.load(self.model, config.init_checkpoint, config)
        dev = self._dev() if config.do_eval and config.eval_steps else None

        def evaluate(step: int) -> float:
            scores = self._scores(*dev)
            print(f"step {step}: {_one_line(scores)}", flush=True)
            return scores[self.task.metric.primary]

        begun = time.monotonic()
        first = self.loop.train(
            rows,
            steps,
            int(steps * config.warmup_proportion),
            self.manager,
            evaluate if dev else None,
        )
        seconds = time.monotonic() - begun
        self.report["train"] = {
            "examples": len(rows),
            "steps": steps,
            "first_step": first,
            "seconds": round(seconds, 1),
        }
        self.report["global_step"] = steps
        if best := self.manager.best():
            self.report["best_checkpoint"] = best
        self.written["final_model"] = pretrained.save_final(
            self.model, config.output_dir, self.tokenizer, self.labels
        )

    def restore(self) -> None:
        """The weights of a run that has been trained: output_dir's, else --init_checkpoint."""
        latest = self.manager.latest()
        source = latest or self.config.init_checkpoint
        if source is None:
            raise ValueError(
                f"--output_dir={self.config.output_dir} holds no checkpoint; train first with "
                "--do_train=true, or give a fine-tuned --init_checkpoint"
            )
        loaded = pretrained.load(self.model, source, self.config)
        if len(loaded.loaded) < len(self.model.weights):
            raise ValueError(
                f"{source} holds no classifier for the {len(self.labels) or 'numeric'} labels of "
                f"--task_name={self.config.task_name}; train first with --do_train=true"
            )
        labels = pretrained.saved_labels(os.path.dirname(source))
        if labels is not None and labels != self.labels:
            raise ValueError(
                f"{source} was trained for the labels {labels}, but --task_name="
                f"{self.config.task_name} has {self.labels}; give the data it was trained for"
            )
        self.report["global_step"] = checkpoints.global_step(source)

    def _dev(self) -> tuple[records.RecordFile, list[InputExample]]:
        examples = self._examples("dev")
        return self._records(examples, "eval"), examples

    def _scores(
        self, rows: records.RecordFile, examples: Sequence[InputExample]
    ) -> dict[str, float]:
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
        step = self.report["global_step"]
        values = {
            "eval_loss": scores.pop("eval_loss"),
            "loss": scores.pop("loss"),
            "global_step": step,
        }
        if self.regression:
            values |= {f"eval_{name}": np.float32(value) for name, value in scores.items()}
        else:
            values["eval_accuracy"] = np.float32(scores["accuracy"])
        path = join(self.config.output_dir, "eval_results.txt")
        text = result_files.eval_results(values)
        run_folder.write_text(path, text)
        print("***** Eval results *****\n" + text, end="", flush=True)
        self.report["eval"] = {
            "examples": len(rows),
            "eval_loss": float(values["eval_loss"]),
            **{name: float(value) for name, value in scores.items()},
        }
        self.written["eval_results"] = path

    def predict(self) -> None:
        examples = self._examples("test")
        rows = self._records(examples, "predict")
        size = self.config.predict_batch_size
        outputs = np.concatenate([r["scores"] for _, r in self.loop.forward(rows, size, "predict")])
        assert len(outputs) == len(examples)
        results = join(self.config.output_dir, "test_results.tsv")
        run_folder.write_text(results, result_files.test_results(outputs))
        predictions = join(self.config.output_dir, "predictions.tsv")
        run_folder.write_text(predictions, result_files.predictions(examples, outputs, self.labels))
        self.report["predict"] = {"examples": len(rows)}
        self.written |= {"test_results": results, "predictions": predictions}

    def export(self) -> None:
        config = self.config
        split = next(s for s in ("dev", "train", "test") if self.task.has(config.data_dir, s))
        examples = self._examples(split)[:32]
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


def _one_line(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {float(value):.4f}" for name, value in scores.items())
