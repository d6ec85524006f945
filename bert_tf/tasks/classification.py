"""Sentence classification and regression: what `run_classifier.py` does, importable.

`run(config)` trains, evaluates, predicts and exports, and writes into output_dir

    train|eval|predict.tf_record   the features, as google-research/bert writes them
    model.ckpt-N                   training checkpoints; `final_model/` the weights alone
    eval_results.txt               Google's evaluation file; metrics.json has every number
    test_results.tsv               Google's predictions; predictions.tsv has ids, labels and texts
    eval_results_test.txt          the scores of a test file that tells its labels
    report.html                    the evaluation on one page
    submission/                    what the task's leaderboard takes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bert_tf import filesystem, heads
from bert_tf.data import dev_split, statistics
from bert_tf.data.examples import InputExample
from bert_tf.data.features import Packing, pool_windows
from bert_tf.data.records import RecordFile
from bert_tf.data.submissions import submission
from bert_tf.export import classification as export_classification
from bert_tf.export import export_model
from bert_tf.export.precision import DevSet
from bert_tf.tasks import feature_files, objectives, result_files, sentence_data
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.evaluated import Evaluated, collapse
from bert_tf.tasks.feature_files import FeatureFile
from bert_tf.tasks.program import Program, Scores
from bert_tf.tasks.seeds import run_seeds
from bert_tf.training import Objective


def run(config: ClassificationConfig) -> dict[str, Any]:
    """Trains, evaluates, predicts and exports, as the flags say.

    Returns:
      What was written: `metrics` (the content of metrics.json), and the paths `final_model`,
      `eval_results`, `report`, `test_results`, `predictions`, `submission`, `export`, each where
      it was made.

    Raises:
      ValueError: flags, files or checkpoint that do not fit together; the message says how to
        mend it.
      FloatingPointError: the loss became infinite or not a number.
    """
    config.check_inputs()
    if config.several_runs:
        sentence_data.check_test_files(config)
        return run_seeds(config, Classifier)
    return Classifier(config).run()


class Classifier(Program[ClassificationConfig]):
    """Of one text or a pair: a class, a number, or any number of classes."""

    def prepare(self) -> None:
        config = self.config
        self.task, self.labels = sentence_data.choose(config, self.source)
        sentence_data.check_flags(config, self.task, self.source)
        self.packing = Packing(config.max_seq_length, config.long_text, config.window_stride)
        self.head = (
            f"classifier for the {len(self.labels) or 'numeric'} labels of "
            f"--task_name={config.task_name}"
        )
        self.metrics["task_name"] = config.task_name

    def description(self) -> dict[str, Any]:
        config = self.config
        return {
            "task_type": self.task.problem_type,
            "task_name": config.task_name,
            "max_seq_length": config.max_seq_length,
            "long_text": config.long_text,
            "window_stride": config.window_stride,
            "window_pooling": config.window_pooling,
            "dev_split": config.dev_split,
        }

    def build_model(self) -> keras.Model:
        return heads.classifier(self.bert_config, num_labels=len(self.labels) or 1)

    def objective(self) -> Objective:
        config, weights = self.config, None
        if config.do_train and config.class_weights is not None:
            weights = sentence_data.class_weights(
                config.class_weights, self.task, self.labels, self._examples("train")
            )
        return objectives.sequence(self.task.problem_type, weights, config.label_smoothing)

    # --------------------------------------------------------------------------------- data

    def read_inputs(self) -> None:
        for split in self.config.read_splits():
            for part in [split] if split == "train" else self._splits(split):
                self._examples(part)
                if part == "train":  # before another split's labels are measured by its
                    for warning in self._label_warnings():
                        print(f"Note: {warning}", flush=True)

    def list_inputs(self) -> None:
        if self.config.dev_split is None or "train" not in self.config.read_splits():
            return
        examples = self._examples("dev")
        listing = dev_split.listing((example.line, example.guid) for example in examples)
        self.write("dev_split", dev_split.FILE, listing, _files(examples))
        whole = len(examples) + len(self._examples("train"))
        print(
            f"dev: {len(examples)} of {whole} rows of the training file "
            f"(--dev_split={self.config.dev_split})",
            flush=True,
        )

    def _examples(self, split: str) -> list[InputExample]:
        if self.config.dev_split is not None and split in ("train", "dev"):
            return self.once(self._part_of_train, split)
        return self.once(self._read, split)

    def _label_warnings(self) -> list[str]:
        return statistics.label_warnings(self.once(self._read, "train"), self.task.problem_type)

    def _part_of_train(self, split: str) -> list[InputExample]:
        """Return the examples of the training file that --dev_split takes, or leaves."""
        examples = self.once(self._read, "train")
        held_out = self.once(self._held_out, "train")
        return [e for n, e in enumerate(examples) if (n in held_out) == (split == "dev")]

    def _held_out(self, split: str) -> set[int]:
        examples, classes = self.once(self._read, split), self.task.problem_type == "classification"
        groups = [example.label if classes else "" for example in examples]
        return set(dev_split.held_out(groups, self.config.dev_split))

    def _read(self, split: str) -> list[InputExample]:
        bad_rows = self.config.bad_rows()
        examples = self.task.examples(self.config.data_dir, split, bad_rows)
        for note in bad_rows.notes:
            print(f"{split}: {note}", flush=True)
        if bad_rows.found:
            print(f"{split}: {bad_rows}", flush=True)
            self.metrics.setdefault("bad_rows", {})[split] = len(bad_rows.found)
        if self.bert_config.type_vocab_size < 2 and any(e.text_b for e in examples):
            raise ValueError(
                "this model has one segment type (type_vocab_size=1), so it cannot tell the two "
                f"sentences of --task_name={self.config.task_name} apart; use another checkpoint"
            )
        return examples

    def _file(self, split: str) -> FeatureFile:
        return self.once(self._write_rows, split)

    def _write_rows(self, split: str) -> FeatureFile:
        """The rows of a split, written under the name that Google's program has for them."""
        part, _, rest = split.partition("_")
        names = {"train": "train", "dev": "eval", "test": "predict"}
        examples = self._examples(split)
        labelled = all(example.labelled for example in examples)
        file = feature_files.write(
            self.config.output_dir,
            "_".join(filter(None, (names[part], rest))),
            examples,
            self.tokenizer,
            self.labels,
            self.packing,
            statistics.SplitStatistics(split, self.task.problem_type, labelled),
        )
        print(file.statistics, flush=True)
        self.metrics.setdefault("data", {})[split] = file.statistics.numbers()
        return file

    def training_rows(self) -> tuple[RecordFile, int]:
        training = self._file("train")
        dev = self._file("dev").statistics if self.config.do_eval else None
        found = statistics.warnings(training.statistics, dev, self.labels)
        for warning in found:
            print(f"Note: {warning}.", flush=True)
        self.metrics["data"]["warnings"] = self._label_warnings() + found
        return training.rows, len(training.rows)

    def training_files(self) -> Mapping[str, Sequence[str]]:
        self._examples("train")  # says what is wrong with them, if anything is
        files = {"the training data": self.task.files(self.config.data_dir, "train")}
        if (
            self.config.eval_steps and self.config.dev_split is None
        ):  # then it decides which weights are the best
            files["the development data"] = self.task.files(self.config.data_dir, "dev")
        return files

    def _splits(self, part: str) -> list[str]:
        return sentence_data.splits(self.task, self.config.data_dir, part)

    # --------------------------------------------------------------------------- evaluation

    @property
    def decisive(self) -> str:
        return self.task.metric.primary

    def dev_scores(self) -> Scores:
        return self._evaluated("dev", self.config.eval_batch_size).scores(self.task)

    def _evaluated(self, split: str, batch_size: int) -> Evaluated:
        """What the model as it is says of a split."""
        file, problem_type = self._file(split), self.task.problem_type
        what = "predict" if split.startswith("test") else "evaluate"
        batches = [r["logits"] for _, r in self.loop.forward(file.rows, batch_size, what)]
        logits = np.concatenate(batches)
        if len(logits) > len(file.examples):
            logits = pool_windows(logits, file.statistics.rows_of, self.config.window_pooling)
        outputs = heads.scores(tf.constant(logits), problem_type).numpy()
        if not file.statistics.labelled:
            return Evaluated(file.examples, self.labels, outputs, None, None, batch_size)
        expected = sentence_data.targets(file.examples, self.task, self.labels)
        losses = objectives.losses(tf.constant(logits), tf.constant(expected), problem_type)
        return Evaluated(file.examples, self.labels, outputs, expected, losses.numpy(), batch_size)

    def evaluate(self) -> None:
        for split in self._splits("dev"):
            suffix = split.removeprefix("dev")
            evaluated = self._evaluated(split, self.config.eval_batch_size)
            scores = evaluated.scores(self.task)
            counts = {"examples": len(evaluated.examples)}
            self.metrics[f"eval{suffix}"] = counts | {k: float(v) for k, v in scores.items()}
            self._write_scores(split, suffix, evaluated)
            if split == "dev":
                self._look_closer(evaluated)

    def _look_closer(self, evaluated: Evaluated) -> None:
        """Find out whether the model has learnt anything, and what the report says of it."""
        if self.task.problem_type == "classification":
            self.tell_collapse(
                collapse(evaluated), "--restart_on_collapse tries the next seed by itself."
            )
        self.findings.evaluated = f"{len(evaluated.examples):,} development examples"
        self.findings.details = evaluated.sections(self.task)

    def _write_scores(self, split: str, suffix: str, evaluated: Evaluated) -> None:
        """Write and print `eval_results<suffix>.txt`."""
        step = {"global_step": self.metrics["global_step"]}
        text = result_files.eval_results(evaluated.google_values(self.task) | step)
        read = _files(evaluated.examples)
        self.write(f"eval_results{suffix}", f"eval_results{suffix}.txt", text, read)
        print(f"***** Eval results{suffix} *****\n{text}", end="", flush=True)

    # --------------------------------------------------------------------------- prediction

    def predict(self) -> None:
        for split in self._splits("test"):
            evaluated = self._evaluated(split, self.config.predict_batch_size)
            self._write_predictions(split, evaluated)
            self.metrics[f"predict{split.removeprefix('test')}"] = {
                "examples": len(evaluated.examples)
            } | self._score_test(split, evaluated)

    def _write_predictions(self, split: str, evaluated: Evaluated) -> None:
        """Write Google's file, the one with ids and texts, and what a leaderboard takes."""
        suffix, outputs = split.removeprefix("test"), evaluated.outputs
        read = _files(evaluated.examples)
        table = result_files.predictions(
            evaluated.examples, outputs, self.labels, self.task.problem_type
        )
        google = result_files.test_results(outputs)
        self.write(f"test_results{suffix}", f"test_results{suffix}.tsv", google, read)
        self.write(f"predictions{suffix}", f"predictions{suffix}.tsv", table, read)
        answers = [self.labels[i] for i in outputs.argmax(1)] if self.labels else outputs[:, 0]
        made = submission(self.task.name, split, evaluated.examples, list(answers))
        if made is not None and self.metrics.get("bad_rows", {}).get(split):
            print(f"{split}: no submission, because rows were left out", flush=True)
        elif made is not None:
            file, text = made
            filesystem.make_dir(self.path("submission"))
            self.write(f"submission{suffix}", f"submission/{file}", text, read)

    def _score_test(self, split: str, evaluated: Evaluated) -> dict[str, float]:
        """Return the scores of a test file that tells its labels, and write and print them."""
        examples = evaluated.examples
        without = [example for example in examples if not example.labelled]
        if without:
            why = "it has none of the labels"
            if len(without) < len(examples):
                first = f"{without[0].file}:{without[0].line}"
                why = (
                    f"{len(without)} of {len(examples)} rows have none of the labels, first {first}"
                )
            print(f"{split}: predicted, but not scored: {why}", flush=True)
            return {}
        labels = {example.label for example in examples}
        if len(labels) == 1 < len(examples):
            print(
                f"Note: every label of {split} is {labels.pop()!r}; if that only fills the column, "
                "the scores below say nothing.",
                flush=True,
            )
        self._write_scores(split, f"_{split}", evaluated)
        return {name: float(value) for name, value in evaluated.scores(self.task).items()}

    def export(self) -> None:
        config = self.config
        there = (s for s in self.task.splits if self.task.has(config.data_dir, s))
        split = next(there, None)
        examples = self._examples(split)[:32] if split else []
        servable = export_classification.Classifier(
            self.model,
            self.bert_config,
            self.tokenizer,
            config.max_seq_length,
            self.labels,
            self.task.problem_type,
            self.packing,
            config.window_pooling,
        )
        samples = [(e.text_a, e.text_b) for e in examples]
        settings = config.export_dir, samples, self.run_dir, config.export_precision
        self.written["export"] = export_model(servable, *settings, self._dev_set)

    def _dev_set(self) -> DevSet:
        """What an export in another precision than float32 is measured by."""
        examples = self._examples("dev")
        expected = sentence_data.targets(examples, self.task, self.labels)
        name = "scores" if self.task.regression else "probabilities"

        def scores(answers: list[dict[str, np.ndarray]]) -> dict[str, float]:
            outputs = np.concatenate([answer[name] for answer in answers])
            outputs = outputs.reshape(len(examples), -1)
            made = Evaluated(examples, self.labels, outputs, expected, None, len(examples))
            return self.task.metric.compute(made.truth(self.task), made.predicted(self.task))

        return DevSet(self._file("dev").rows, scores)


def _files(examples: Sequence[InputExample]) -> list[str]:
    """Return the files that the examples were read from."""
    return sorted({example.file for example in examples})
