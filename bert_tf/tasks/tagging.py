"""Tagging: what `run_tagger.py` does, importable.

`run(config)` trains, evaluates, predicts and exports, and writes into output_dir

    train|eval|predict.tf_record   the rows; a long sentence has several
    model.ckpt-N                   training checkpoints; `final_model/` the weights alone
    eval_results.txt               the scores of the dev set; metrics.json has every number
    predictions.*                  the test file with predicted tags, in the form of the file
    eval_results_test.txt          the scores of a test file that has tags
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bert_tf import checkpoints, filesystem, heads
from bert_tf.data import dev_split, records
from bert_tf.data.records import RecordFile
from bert_tf.data.tag_schemes import TagSet, is_tag, tag_set_of
from bert_tf.data.tagging import ENDINGS, TaggedFile, rarest_labels
from bert_tf.data.tagging_features import Row, Window, stitch, window_rows
from bert_tf.data.text_files import BadRow, listed
from bert_tf.export import export_model
from bert_tf.export import tagging as export_tagging
from bert_tf.export.precision import DevSet
from bert_tf.graph_sentencepiece_offsets import check_offsets
from bert_tf.tasks import objectives, result_files, tagging_report
from bert_tf.tasks.program import Program, Scores
from bert_tf.tasks.tagging_config import TaggingConfig
from bert_tf.training import Objective

_SHOWN = 5  # tags listed one by one


def run(config: TaggingConfig) -> dict[str, Any]:
    """Trains, evaluates, predicts and exports, as the flags say.

    Returns:
      What was written: `metrics` (the content of metrics.json), and the paths `final_model`,
      `eval_results`, `report`, `predictions`, `export`, each where it was made.

    Raises:
      ValueError: flags, files or checkpoint that do not fit together; the message says how to
        mend it.
      FloatingPointError: the loss became infinite or not a number.
    """
    config.check_inputs()
    return Tagger(config).run()


class Split(NamedTuple):
    """The sentences of a file, and their rows, each with its window."""

    file: TaggedFile
    rows: RecordFile
    windows: Sequence[Window]


class Tagged(NamedTuple):
    """What the model says of a file: labels of the words of each sentence, and its mean loss.

    The loss is that of the rows whose labels the model has; None if there is no such row.
    """

    labels: Sequence[Sequence[str]]
    loss: float | None


class Tagger(Program[TaggingConfig]):
    """Of the words of a sentence."""

    def prepare(self) -> None:
        config = self.config
        used = None if config.do_train else self.source  # a model that is only used
        noted = (checkpoints.saved_task(used) if used else None) or {}
        if used:
            config.check_dev_split(noted, used)
        task = config.task()
        train = task.path(config.data_dir, "train")
        layout = task.columns(train) if filesystem.is_file(train) else noted.get("columns")
        self.task = dataclasses.replace(task, layout=layout)
        self.use_crf = config.use_crf or bool(noted.get("use_crf"))
        self.tag_set = self._tag_set(used, noted.get("tag_scheme"))
        self.labels = list(self.tag_set.labels)
        layer = "tagger with a CRF" if self.use_crf else "tagger"
        self.head = f"{layer} for the {len(self.labels)} labels {', '.join(self.labels)}"
        self.metrics["task_name"] = config.task_name

    def _tag_set(self, used: str | None, scheme: str | None) -> TagSet:
        """A used model's labels and scheme; else those of the flags and the training file."""
        config = self.config
        given, known = config.label_list(), checkpoints.saved_labels(used) if used else None
        if known and given and known != given:
            raise ValueError(
                f"--labels={config.labels}, but {used} was trained for {','.join(known)}; "
                "leave the flag out"
            )
        if known:
            return tag_set_of(known, config.tag_scheme or scheme)
        found = self.task.tag_set(self.task.path(config.data_dir, "train"), config.bad_rows().add)
        if given is None:
            return found
        if found.has_entities and not all(is_tag(label, "IOB2") for label in given):
            raise ValueError(
                f"--labels={config.labels}: labels of entities are O, B-<type> and I-<type>"
            )
        return dataclasses.replace(found, labels=tuple(given))

    def description(self) -> dict[str, Any]:
        return {
            "task_type": "tagging",
            "task_name": self.config.task_name,
            "max_seq_length": self.config.max_seq_length,
            "doc_stride": self.config.stride,
            "tag_scheme": self.tag_set.scheme,
            "use_crf": self.use_crf,
            "columns": self.task.layout,
            "dev_split": self.config.dev_split,
        }

    def build_model(self) -> keras.Model:
        if self.config.export_dir:
            check_offsets(self.tokenizer)  # before it is trained in vain
        return heads.tagger(self.bert_config, len(self.labels), self.use_crf)

    def objective(self) -> Objective:
        return objectives.tagging(self.use_crf)

    def rate_scale(self, name: str) -> float:
        return self.config.crf_learning_rate_multiplier if name.startswith("crf/") else 1.0

    # --------------------------------------------------------------------------------- data

    def read_inputs(self) -> None:
        for split in self.config.read_splits():
            self._file(split)

    def list_inputs(self) -> None:
        if self.config.dev_split is None or "train" not in self.config.read_splits():
            return
        held_out, whole = self.once(self._held_out, "train"), self.once(self._read, "train")
        listing = dev_split.listing((whole.examples[n].line, str(n)) for n in held_out)
        self.write("dev_split", dev_split.FILE, listing, [whole.path])
        print(
            f"dev: {len(held_out)} of {len(whole.examples)} sentences of the training file "
            f"(--dev_split={self.config.dev_split})",
            flush=True,
        )

    def _file(self, split: str) -> TaggedFile:
        if self.config.dev_split is not None and split in ("train", "dev"):
            return self.once(self._part_of_train, split)
        return self.once(self._read, split)

    def _part_of_train(self, split: str) -> TaggedFile:
        """Return the sentences of the training file that --dev_split takes, or leaves."""
        whole = self.once(self._read, "train")
        held_out = set(self.once(self._held_out, "train"))
        part = [e for n, e in enumerate(whole.examples) if (n in held_out) == (split == "dev")]
        return dataclasses.replace(whole, examples=part)

    def _held_out(self, split: str) -> list[int]:
        groups = rarest_labels(self.once(self._read, split).examples)
        return dev_split.held_out(groups, self.config.dev_split)

    def _read(self, split: str) -> TaggedFile:
        path = self.task.path(self.config.data_dir, split)
        bad_rows = self.config.bad_rows()
        settings = path, self.tag_set, self.tokenizer
        if split == "test":
            file = self.task.read(*settings, tagged=False, on_bad=bad_rows.add)
            file = self._tagged_test(file, bad_rows.found)
        else:
            file = self.task.read(*settings, evaluated=split == "dev", on_bad=bad_rows.add)
            if file.unknown.total() == file.words:
                tags, labels = (listed(x, _SHOWN) for x in (list(file.unknown), self.labels))
                raise ValueError(
                    f"{path}: the model has none of this file's tags ({tags}), but {labels}; "
                    "--tag_column or --label_column says where tags are"
                )
        bad_rows.finish(path, len(file.examples))
        if bad_rows.found:
            print(f"{split}: {bad_rows}", flush=True)
            self.metrics.setdefault("bad_rows", {})[split] = len(bad_rows.found)
        for doubt in file.doubts():
            print(f"Note: {file.path}: {doubt}.", flush=True)
        return file

    def _tagged_test(self, file: TaggedFile, left_out: Sequence[str]) -> TaggedFile:
        """Return the test file with its tags, where it has some to be compared with.

        Predicting needs none: what is wrong with them is said, and the file is as without tags.

        Args:
          left_out: the messages of the rows that are bad whatever their tags.
        """
        if not self.task.is_tagged(file.path):
            columns, layout = self.task.columns(file.path), self.task.layout
            if layout and columns != layout:
                print(
                    f"Note: {file.path} has {columns} columns, the training file {layout}; it is "
                    "taken as a file without tags.",
                    flush=True,
                )
            return file
        bad: list[BadRow] = []
        tagged = None
        try:
            tagged = self.task.read(
                file.path, self.tag_set, self.tokenizer, evaluated=True, on_bad=bad.append
            )
        except ValueError as error:
            reason = str(bad[0] if bad else error)
        else:
            lines = {example.line for example in file.examples}
            missing = lines - {example.line for example in tagged.examples}
            if not missing and tagged.unknown.total() < tagged.words:
                return tagged
            tags = listed(list(tagged.unknown), _SHOWN)
            reason = f"{file.path}: the model has none of its tags ({tags})"
            if missing:  # because of their tags: what else is bad was left out before
                reason = next(str(each) for each in bad if str(each) not in left_out)
        print(f"Note: {reason}. The file is predicted, but not scored.", flush=True)
        return file

    def _split(self, split: str) -> Split:
        return self.once(self._write_rows, split)

    def _write_rows(self, split: str) -> Split:
        """The rows of a split, written under the name that Google's programs have for them."""
        name = {"train": "train", "dev": "eval", "test": "predict"}[split]
        file, length = self._file(split), self.config.max_seq_length
        ids = {label: number for number, label in enumerate(self.labels)}
        windows: list[Window] = []

        def rows() -> Iterator[Row]:
            for row, window in window_rows(
                file.examples, self.tokenizer, ids, length, self.config.stride
            ):
                windows.append(window)
                yield row

        path, spec = self.path(f"{name}.tf_record"), records.tagging_spec(length)
        records.write(path, rows(), spec)
        self.metrics.setdefault("data", {})[split] = {
            "sentences": len(file.examples),
            "rows": len(windows),
            "repaired_tags": file.repaired,
            "misaligned_entities": file.misaligned,
        }
        print(f"{file}; {len(windows)} rows of up to {length} pieces", flush=True)
        return Split(file, RecordFile(path, spec), windows)

    def training_rows(self) -> tuple[RecordFile, int]:
        rows = self._split("train").rows
        return rows, len(rows)

    def training_files(self) -> Mapping[str, Sequence[str]]:
        return {"the training data": [self._file("train").path]}

    # --------------------------------------------------------------- evaluation, prediction

    @property
    def decisive(self) -> str:
        return "f1" if self.tag_set.has_entities else "accuracy"

    def dev_scores(self) -> Scores:
        scores = self._scores("dev", self._tagged("dev", self.config.eval_batch_size))
        return {name: value for name, value in scores.items() if name != "types"}

    def _tagged(self, split: str, batch_size: int) -> Tagged:
        """What the model as it is says of a split."""
        file, rows, windows = self._split(split)
        what = "predict" if split == "test" else "evaluate"
        results = [found for _, found in self.loop.forward(rows, batch_size, what)]
        ids = (row for found in results for row in found["label_ids"])
        learnt = np.array([window.learnt for window in windows])
        loss, weight = (
            float(np.concatenate([r[n] for r in results])[learnt].sum()) for n in ("loss", "weight")
        )
        labels = stitch(file.examples, windows, ids, self.labels)
        return Tagged(labels, loss / weight if weight else None)

    def _scores(self, split: str, tagged: Tagged) -> dict[str, Any]:
        loss = {} if tagged.loss is None else {"loss": tagged.loss}
        return self._file(split).scores(tagged.labels) | loss

    def evaluate(self) -> None:
        file, tagged = self._file("dev"), self._tagged("dev", self.config.eval_batch_size)
        scores = self._scores("dev", tagged)
        self.metrics["eval"] = {"sentences": len(file.examples)} | scores
        self._write_scores("dev", "", scores)
        self.tell_collapse(tagging_report.collapse(file, tagged.labels))
        self.findings.evaluated = f"{len(file.examples):,} development sentences"
        self.findings.details = tagging_report.sections(file, tagged.labels, scores)

    def _write_scores(self, split: str, suffix: str, scores: Mapping[str, Any]) -> None:
        """Write and print `eval_results<suffix>.txt`."""
        types = scores.get("types", {})
        values = {f"eval_{name}": value for name, value in scores.items() if name != "types"}
        for kind, of_kind in types.items():
            values |= {f"eval_{kind}_{name}": value for name, value in of_kind.items()}
        text = result_files.eval_results(values | {"global_step": self.metrics["global_step"]})
        name = f"eval_results{suffix}"
        self.write(name, f"{name}.txt", text, [self._file(split).path])
        print(f"***** Eval results{suffix} *****\n{text}", end="", flush=True)

    def predict(self) -> None:
        tagged, file = self._tagged("test", self.config.predict_batch_size), self._file("test")
        ending = os.path.splitext(file.path)[1]
        name = f"predictions{ending if ending in ENDINGS else '.txt'}"
        self.write("predictions", name, file.predictions(tagged.labels), [file.path])
        metrics: dict[str, Any] = {"sentences": len(file.examples)}
        if all(example.labels is not None for example in file.examples):
            scores = self._scores("test", tagged)
            metrics |= scores
            self._write_scores("test", "_test", scores)
        self.metrics["predict"] = metrics

    def export(self) -> None:
        config = self.config
        servable = export_tagging.Tagger(
            self.model,
            self.bert_config,
            self.tokenizer,
            config.max_seq_length,
            self.tag_set,
            self.use_crf,
            config.stride,
        )
        there = (
            split
            for split in ("train", "dev", "test")
            if filesystem.is_file(self.task.path(config.data_dir, split))
        )
        split = next(there, None)
        texts = [e.text for e in self._file(split).examples[:32]] if split else []
        settings = config.export_dir, texts, self.run_dir, config.export_precision
        self.written["export"] = export_model(servable, *settings, self._dev_set)

    def _dev_set(self) -> DevSet:
        """What an export in another precision than float32 is measured by."""
        file, rows, windows = self._split("dev")

        def scores(answers: list[dict[str, np.ndarray]]) -> dict[str, float]:
            ids = (row for answer in answers for row in answer["label_ids"])
            found = file.scores(stitch(file.examples, windows, ids, self.labels))
            return {name: value for name, value in found.items() if name != "types"}

        return DevSet(rows, scores)
