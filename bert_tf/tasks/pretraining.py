"""Masked words and next sentences: what `run_pretraining.py` does, importable.

`run(config)` trains, evaluates and exports, and writes into output_dir

    model.ckpt-N          training checkpoints; `final_model/` the weights alone
    eval_results.txt      Google's six numbers; metrics.json has all

The rows are made beforehand, by create_pretraining_data.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert_tf import heads
from bert_tf.batching import Arrays
from bert_tf.data import row_packing
from bert_tf.data.corpora import find_files
from bert_tf.data.records import RecordFile, RecordFiles, Rows, pretraining_spec
from bert_tf.export import export_model
from bert_tf.export.masked_language_model import MaskedLanguageModel
from bert_tf.tasks import objectives, result_files
from bert_tf.tasks.pretraining_config import PretrainingConfig
from bert_tf.tasks.pretraining_rows import Arranged, First, MaskedRows
from bert_tf.tasks.program import Program, Scores
from bert_tf.training import Loop, Objective, TrainingResult

_GOOGLES = ("loss", "masked_lm_accuracy", "masked_lm_loss")
_GOOGLES_OF_PAIRS = ("next_sentence_accuracy", "next_sentence_loss")


def run(config: PretrainingConfig) -> dict[str, Any]:
    """Trains, evaluates and exports, as the flags say.

    Returns:
      What was written: `metrics` (the content of metrics.json), and the paths `final_model`,
      `eval_results`, `report`, `export`, each where it was made.

    Raises:
      ValueError: flags, files or checkpoint that do not fit together; the message says how to
        mend it.
      FloatingPointError: the loss became infinite or not a number.
    """
    return Pretraining(config).run()


class Pretraining(Program[PretrainingConfig]):
    """A language model of masked words, and of which text follows which."""

    head = "head for masked words (cls/predictions)"
    reads_text = False
    higher_is_better = False

    def prepare(self) -> None:
        self._files = {flag: find_files(value, flag) for flag, value in self.config.files()}

    def description(self) -> dict[str, Any]:
        return {
            "task_type": "masked_lm",
            "max_seq_length": max(self.config.max_seq_length, self._last.max_seq_length),
            "next_sentence": self.config.next_sentence,
        }

    @property
    def _last(self) -> PretrainingConfig:
        """The flags of the last phase."""
        config = self.config
        return config.phase_2() if config.phase2_num_train_steps else config

    def build_model(self) -> keras.Model:
        config, positions = self.config, self.bert_config.max_position_embeddings
        if self._last.max_seq_length > positions:
            raise ValueError(
                f"--phase2_max_seq_length={self._last.max_seq_length} exceeds this model's "
                f"{positions} positions; use {positions} or less"
            )
        if config.dynamic_masking and getattr(self.tokenizer, "mask_token_id", None) is None:
            raise ValueError(
                "--dynamic_masking needs the vocabulary, with a token [MASK]; give the "
                "--vocab_file (or --spm_model_file) that the rows were made with"
            )
        if config.export_dir and self.tokenizer is None:
            raise ValueError("--export_dir needs the vocabulary of the rows; give --vocab_file")
        return heads.pretraining(self.bert_config, config.next_sentence, config.packing)

    def objective(self) -> Objective:
        return objectives.pretraining(self.config.next_sentence)

    # --------------------------------------------------------------------------------- data

    def read_inputs(self) -> None:
        """Open the rows of every phase that is left and of the evaluation."""
        if self.config.do_train:
            for flag, _ in self._phases():
                self.once(self._rows, flag)
        if self.config.do_eval:
            self.once(self._rows, self._eval_flag)

    def training_files(self) -> Mapping[str, Sequence[str]]:
        return {f"--{flag}": files for flag, files in self._files.items() if "eval" not in flag}

    def _rows(self, flag: str) -> Rows:
        """The rows of the files of a flag, masked."""
        config = self._last if flag.startswith("phase2") else self.config
        length, predictions = config.max_seq_length, config.max_predictions_per_seq
        spec = pretraining_spec(length, predictions, config.dynamic_masking)
        files = RecordFiles(self._files[flag], spec)
        self._check_rows(files, config)
        if not config.dynamic_masking:
            return files
        masking = config.random_seed, config.masked_lm_prob, predictions
        return MaskedRows(files, self.tokenizer, *masking)

    def _check_rows(self, files: RecordFiles, flags: PretrainingConfig) -> None:
        """The first row of each file: its features, and that the model knows its ids."""
        wanted = {name: feature.shape[0] for name, feature in files.spec.items()}
        for file in files.files:
            found = file.lengths()
            if found != wanted:
                raise ValueError(_other_rows(file.path, found, flags))
            highest = int(file.batch([0])["input_ids"].max())
            if highest >= self.bert_config.vocab_size:
                raise ValueError(
                    f"{file.path}: id {highest} in the first row, but the model's vocab_size is "
                    f"{self.bert_config.vocab_size}; the rows were made with another vocabulary"
                )

    def training_rows(self) -> tuple[RecordFile, int]:
        raise NotImplementedError  # each phase has its own: see `fit`

    def fit(self) -> tuple[int, int, TrainingResult]:
        """Trains phase after phase; the learning rate and the steps go on.

        Of two phases the best checkpoint is one of the second: the first knows no long rows.
        """
        config = self.config
        whole = config.num_train_steps
        results, examples = [], 0
        for flag, steps in self._phases():
            rows = self.once(self._rows, flag)
            flags = self._last if steps.stop == whole else config
            examples += len(rows)
            print(f"--{flag}: {len(rows)} rows of up to {flags.max_seq_length} pieces", flush=True)
            if config.packing:
                rows = Arranged(rows, row_packing.pack)
            loop = Loop(flags, self.model, self.objective(), self.strategy)
            warmup, judge = config.num_warmup_steps, self.judge()
            if judge is not None and steps.stop < whole:
                judge = functools.partial(_only_told, judge)
            results.append(loop.train(rows, steps, whole, warmup, self.manager, judge))
            if results[-1].stopped_early:
                break
        return examples, whole, _together(results)

    def _phases(self) -> list[tuple[str, range]]:
        """The flag of the rows of each phase, and its steps; without one that was completed."""
        whole, second = self.config.num_train_steps, self.config.phase2_num_train_steps
        latest = self.manager.latest()
        done = int(latest.rpartition("-")[2]) if latest else 0
        if not second:
            return [("input_file", range(whole))]
        phases = [("input_file", range(whole - second))] if done < whole - second else []
        return [*phases, ("phase2_input_file", range(whole - second, whole))]

    # --------------------------------------------------------------------------- evaluation

    @property
    def decisive(self) -> str:
        return "masked_lm_loss"

    @property
    def _eval_flag(self) -> str:
        return "eval_input_file" if self.config.eval_input_file else "input_file"

    @functools.cached_property
    def _eval_rows(self) -> Rows:
        config = self.config
        rows = self.once(self._rows, self._eval_flag)
        rows = First(rows, config.max_eval_steps * config.eval_batch_size)
        return Arranged(rows, row_packing.one_text_a_row) if config.packing else rows

    def dev_scores(self) -> Scores:
        return self._scores()

    def _scores(self) -> dict[str, float]:
        """The losses and accuracies; Google's `loss` is the mean over the batches."""
        size = self.config.eval_batch_size
        columns: dict[str, list[np.ndarray]] = {}
        ids, losses = [], []
        for batch, results in self.loop.forward(self._eval_rows, size, "eval"):
            for name, values in results.items():
                columns.setdefault(name, []).append(values)
            ids.append(_masked_ids(batch))
            losses.append(_batch_loss(results))
        whole = {name: np.concatenate(values) for name, values in columns.items()}
        masked = whole["masked_lm_weight"].sum(dtype=np.float64)
        loss = float(whole["masked_lm_loss"].sum(dtype=np.float64) / masked)
        scores = {
            "loss": float(np.mean(losses)),
            "masked_lm_accuracy": float(whole["masked_lm_correct"].sum() / masked),
            "masked_lm_loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "unigram_entropy": entropy(np.concatenate(ids)),
        }
        if self.config.next_sentence:
            scores["next_sentence_accuracy"] = float(whole["next_sentence_correct"].mean())
            scores["next_sentence_loss"] = float(whole["next_sentence_loss"].mean(dtype=np.float64))
        return scores

    def evaluate(self) -> None:
        scores = self._scores()
        step = self.metrics["global_step"]
        self.metrics["eval"] = {"examples": len(self._eval_rows)} | scores
        self.findings.evaluated = f"{len(self._eval_rows):,} rows"
        if scores["masked_lm_loss"] >= scores["unigram_entropy"]:
            self.findings.warnings.append(
                f"the masked_lm_loss is not below {scores['unigram_entropy']:.4f}, which knowing "
                "only how frequent each piece is gives"
            )
        names = _GOOGLES + (_GOOGLES_OF_PAIRS if self.config.next_sentence else ())
        googles = {name: np.float32(scores[name]) for name in names}
        text = result_files.eval_results(googles | {"global_step": step})
        self.write("eval_results", "eval_results.txt", text, self._files[self._eval_flag])
        print(f"***** Eval results *****\n{text}", end="", flush=True)
        print(
            f"perplexity {scores['perplexity']:.2f}; knowing only how frequent each piece is "
            f"gives a masked_lm_loss of {scores['unigram_entropy']:.4f}",
            flush=True,
        )

    # ------------------------------------------------------------------------------- export

    def export(self) -> None:
        servable = MaskedLanguageModel(
            self.model, self.bert_config, self.tokenizer, self.description()["max_seq_length"]
        )
        self.written["export"] = export_model(
            servable, self.config.export_dir, run_dir=self.run_dir
        )


def entropy(ids: np.ndarray) -> float:
    """Of how often each id occurs, in nats: the least loss of one that knows no more than that."""
    _, counts = np.unique(ids, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _other_rows(path: str, found: Mapping[str, int], flags: PretrainingConfig) -> str:
    """What is wrong with a file whose rows have other features."""
    length, masked = found.get("input_ids"), found.get("masked_lm_positions")
    if "masking_units" in found and not flags.dynamic_masking:
        remedy = "they are not masked yet: give --dynamic_masking=true"
    elif flags.dynamic_masking and masked:
        remedy = "they are masked already: leave --dynamic_masking out"
    elif length:
        remedy = f"they are {length} pieces long" + (f", with {masked} masked" if masked else "")
        remedy += "; give them as --max_seq_length and --max_predictions_per_seq (phase2_...)"
    else:
        remedy = "make them with create_pretraining_data.py"
    expected = f"{flags.max_seq_length} pieces, {flags.max_predictions_per_seq} of them masked"
    return f"{path}: its rows are not as the flags say ({expected}); {remedy}"


def _only_told(judge: Callable[[int], float], step: int) -> float:
    """Evaluates, but a number that is none makes no checkpoint the best."""
    judge(step)
    return math.nan


def _masked_ids(batch: Arrays) -> np.ndarray:
    return batch["masked_lm_ids"][batch["masked_lm_weights"] > 0]


def _batch_loss(results: Arrays) -> float:
    """Google's loss of a batch: masked words and next sentence."""
    masked = results["masked_lm_weight"].sum() + 1e-5
    loss = results["masked_lm_loss"].sum() / masked
    pairs = results.get("next_sentence_loss")
    return float(loss if pairs is None else loss + pairs.mean())


def _together(results: Sequence[TrainingResult]) -> TrainingResult:
    """Of all phases."""
    return TrainingResult(
        results[0].first_step,
        results[-1].last_step,
        results[-1].stopped_early,
        sum(result.tokens for result in results),
        sum(result.seconds for result in results),
    )
