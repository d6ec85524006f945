"""What every program that trains does, in one place: train, evaluate, predict, export.

A task is a subclass of `Program` that says what its model, its rows and its results are. The base
class does the rest, and writes into output_dir

    model.ckpt-N    training checkpoints; `final_model/` the weights alone, with their description
    run.json        what training depends on
    metrics.json    every number of the run
    report.html     the run on one page
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import keras
import tensorflow as tf
import tqdm

from bert_tf import checkpoints, cluster, distribution, filesystem, run_folder, training
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.config import BertConfig
from bert_tf.data.records import RecordFile
from bert_tf.distribution import Replicas
from bert_tf.export.finetuned import run_dir
from bert_tf.run_config import TrainingConfig
from bert_tf.tasks import pretrained, run_report
from bert_tf.tokenization import Tokenizer

join = tf.io.gfile.join
Config = TypeVar("Config", bound=TrainingConfig)
Scores = Mapping[str, Any]
Argument = TypeVar("Argument", bound=Hashable)
Made = TypeVar("Made")


class Program(ABC, Generic[Config]):
    """One run of a program.

    Attributes:
      config: the flags; in a worker that is not the chief with an output_dir of its own.
      strategy, replicas: the devices.
      manager: the checkpoints of output_dir.
      run_dir: where run.json and the curves of the training lie.
      source: the checkpoint that is evaluated, used or continued: the latest of this run, else
        what it starts from; None for random weights.
      bert_config, tokenizer, model: the parts that flags and `source` choose.
      labels: names in the order of the model's outputs, where it has any.
      metrics: what becomes metrics.json.
      findings: what report.html says beside that.
      written: name -> path, of what was made.
    """

    head: str  # what the model has besides an encoder, for messages
    reads_text = True  # else a vocabulary is welcome but not needed: `tokenizer` may be None
    higher_is_better = True  # of the decisive score

    def __init__(self, config: Config):
        self.strategy = distribution.create_strategy(config)
        self.replicas = Replicas.of(self.strategy)
        print(distribution.describe(self.strategy, config), flush=True)
        chief = self.replicas.is_chief
        self.manager = CheckpointManager(config.output_dir, writes=chief)
        if not chief:  # computes what the chief does, and writes where nobody looks
            self._scratch = tempfile.TemporaryDirectory(prefix="bert_tf-")
            config = dataclasses.replace(config, output_dir=self._scratch.name)
        self.config = config
        filesystem.make_dir(config.output_dir)
        own = self.manager.latest()
        if not config.do_train:  # what training chose, where it was evaluated on the way
            own = self.manager.best() or own
        self.source = own or config.init_checkpoint
        if self.source is None and config.do_train:
            print("Training starts from random weights: no --init_checkpoint is given.", flush=True)
        self.run_dir = config.output_dir
        if not config.do_train and self.source is not None:
            self.run_dir = run_dir(self.source)
        self._made: dict[Any, Any] = {}
        self.labels: list[str] = []
        self.metrics: dict[str, Any] = {}
        self.findings = run_report.Findings()
        self.written: dict[str, Any] = {}
        self.prepare()
        self.bert_config: BertConfig
        self.tokenizer: Tokenizer
        self.bert_config, self.tokenizer = pretrained.architecture(
            config, self.source, self.reads_text
        )
        keras.utils.set_random_seed(config.random_seed)
        with self.strategy.scope(), distribution.precision_policy(config.precision):
            self.model = self.build_model()
        if config.freeze_layers is not None:
            self.model.bert.freeze(config.freeze_layers)
        self.loop = training.Loop(
            config, self.model, self.objective(), self.strategy, self.rate_scale
        )

    # ------------------------------------------------------------------- what a task says

    def prepare(self) -> None:
        """Finds out what the model's shape depends on, before there is one: `labels`."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the model does and how texts become its rows; task.json holds it."""

    @abstractmethod
    def build_model(self) -> keras.Model:
        """One of `heads`; called under the strategy and the precision policy."""

    @abstractmethod
    def objective(self) -> training.Objective:
        """What is minimised."""

    def rate_scale(self, name: str) -> float:
        """How many times the learning rate the variable of this checkpoint name gets."""
        del name
        return 1.0

    def read_inputs(self) -> None:
        """Reads every file that the flags will need, so that a bad one is told before training.

        Raises:
          ValueError: a file is missing, or a row in it cannot be used.
        """

    def list_inputs(self) -> None:
        """Write into output_dir which rows are used; it belongs to this run by now."""

    @abstractmethod
    def training_rows(self) -> tuple[RecordFile, int]:
        """Writes the training set's rows into output_dir; and how many make an epoch."""

    @abstractmethod
    def training_files(self) -> Mapping[str, Sequence[str]]:
        """What training reads beside the vocabulary: a name for messages -> paths."""

    @property
    @abstractmethod
    def decisive(self) -> str:
        """The name of the dev score by which the best checkpoint is chosen."""

    @abstractmethod
    def dev_scores(self) -> Scores:
        """The scores of the model as it is on the dev set, whose rows are made only once."""

    @abstractmethod
    def evaluate(self) -> None:
        """Evaluates on the dev set and writes the results."""

    def predict(self) -> None:
        """Predicts the test set and writes the predictions, where the program has --do_predict."""
        raise NotImplementedError

    @abstractmethod
    def export(self) -> None:
        """Writes the SavedModels."""

    # ------------------------------------------------------------------------------ steps

    def run(self) -> dict[str, Any]:
        """Does what the flags say.

        Returns:
          What was written: `metrics` (the content of metrics.json), and paths by name.
        """
        config = self.config
        trains = config.do_train and self.replicas.is_chief
        alone = run_folder.locked(config.output_dir) if trains else contextlib.nullcontext()
        with alone, cluster.loss_is_an_interruption():
            self.read_inputs()
            if config.do_train:
                self.train()
            else:
                self.restore()
                self.list_inputs()
            if config.do_eval:
                self.evaluate()
            if config.do_predict:
                self.predict()
        metrics = run_folder.merge_json(self.path(run_folder.METRICS_FILE), self.metrics)
        if self.replicas.is_chief and (config.do_eval or "train" in self.metrics):
            self._report(metrics)
            metrics = run_folder.merge_json(self.path(run_folder.METRICS_FILE), {})  # it has a note
        if config.export_dir and self.replicas.is_chief:
            self.export()  # whose card tells the metrics
        if self.replicas.is_chief:
            for name, path in self.written.items():
                print(f"{name}: {path}", flush=True)
        return self.written | {"metrics": metrics}

    def tell_collapse(self, reason: str | None, remedy: str = "") -> None:
        """Note in metrics.json why the model has collapsed, or that it has not; and say it."""
        self.metrics["collapsed"] = reason
        if reason:
            self.findings.warnings.append(f"the run has collapsed: {reason}")
            print(
                f"The run has collapsed: {reason}. Another --random_seed, a smaller "
                f"--learning_rate or a longer --warmup_proportion may help. {remedy}".rstrip(),
                flush=True,
            )

    def _report(self, metrics: Mapping[str, Any]) -> None:
        """Write report.html; `metrics` is the content of metrics.json."""
        page = run_report.page(
            self.config,
            self.run_dir,
            metrics.get("task_name") or self.description()["task_type"],
            self.decisive,
            self.findings,
            metrics,
        )
        evaluated = metrics.get(run_folder.RESULTS, {}).get("eval_results.txt", {})
        self.write("report", "report.html", page, evaluated.get("files", ()))

    def train(self) -> None:
        config = self.config
        if not self.manager.latest() and config.init_checkpoint:
            pretrained.load(self.model, config.init_checkpoint, config)
        self._claim_output_dir()
        self.list_inputs()
        begun = time.monotonic()
        examples, steps, result = self.fit()
        if self.replicas.is_chief:
            run_folder.note_end(config.output_dir, result.first_step, result.last_step)
        if result.first_step < result.last_step:
            seconds = round(time.monotonic() - begun, 1)
            self.metrics["train"] = {
                "examples": examples,
                "steps": steps,
                "first_step": result.first_step,
                "last_step": result.last_step,
                "stopped_early": result.stopped_early,
                "seconds": seconds,
                "tokens_per_second": round(result.tokens / result.seconds),
            }
        self.metrics["global_step"] = result.last_step
        if config.eval_steps:
            self._use_best()
        self.written["final_model"] = pretrained.save_final(
            self.model, config.output_dir, self.tokenizer, self.labels, self.description()
        )

    def fit(self) -> tuple[int, int, training.TrainingResult]:
        """Trains the model; returns how many examples and steps there are, and what was done."""
        config = self.config
        rows, examples = self.training_rows()
        steps = int(examples / config.train_batch_size * config.num_train_epochs)
        if steps < 1:
            raise ValueError(
                f"{examples} training examples, --train_batch_size={config.train_batch_size} "
                f"and --num_train_epochs={config.num_train_epochs} make no step; "
                "use a smaller batch"
            )
        warmup = int(steps * config.warmup_proportion)
        result = self.loop.train(rows, range(steps), steps, warmup, self.manager, self.judge())
        return examples, steps, result

    def _use_best(self) -> None:
        """What follows the training is done with the checkpoint that was best on the dev set."""
        self.replicas.the_chiefs(0)  # when the chief has noted which one that is
        best = self.manager.best()
        self.metrics["best_checkpoint"] = best
        if best is None:  # not one evaluation, or none with a number
            return
        checkpoints.load(self.model, best)
        self.metrics["global_step"] = checkpoints.global_step(best)
        print(f"The best checkpoint, {best}, becomes the final model.", flush=True)

    def _claim_output_dir(self) -> None:
        config = self.config
        data, model = {**self.training_files()}, self.bert_config.to_dict()
        if self.tokenizer is not None:
            data["the vocabulary"] = [self.tokenizer.vocab_file]
            model["do_lower_case"] = self.tokenizer.do_lower_case
        if self.replicas.is_chief:
            run_folder.claim(config, model, data, started=self.manager.latest() is not None)
            self.manager.remove_stale()
        pretrained.save_description(
            config.output_dir,
            self.bert_config,
            self.tokenizer,
            self.labels,
            self.description(),
        )

    def judge(self) -> Callable[[int], float] | None:
        """step -> the task's metric on the dev set; None unless it is asked for on the way."""
        if not self.config.eval_steps:
            return None

        def judge(step: int) -> float:
            scores = self.dev_scores()
            training.log_scalars(step, {f"dev/{name}": float(x) for name, x in scores.items()})
            line = ", ".join(f"{name} {float(value):.4f}" for name, value in scores.items())
            tqdm.tqdm.write(f"step {step}: {line}")  # above the progress bar
            score = float(scores[self.decisive])
            return score if self.higher_is_better else -score

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
                f"{self.source} holds no {self.head}; train first with --do_train=true"
            )
        self.metrics["global_step"] = checkpoints.global_step(self.source)

    def once(self, make: Callable[[Argument], Made], argument: Argument) -> Made:
        """Return `make(argument)`, such as the rows of a split, which is called only once."""
        key = make.__name__, argument
        if key not in self._made:
            self._made[key] = make(argument)
        return self._made[key]

    def path(self, file: str) -> str:
        """Of a file in output_dir."""
        return join(self.config.output_dir, file)

    def write(self, name: str, file: str, text: str, read: Sequence[str] = ()) -> None:
        """Write a result file into output_dir and note it in `written`.

        Args:
          read: the files that the result is made from, if any. The result of other files is kept
            under another name.
        """
        self.written[name] = self.path(file)
        sha256 = self.once(run_folder.fingerprint, tuple(read))  # several results have one source
        run_folder.claim_result(self.config.output_dir, file, read, sha256)
        run_folder.write_text(self.written[name], text)
