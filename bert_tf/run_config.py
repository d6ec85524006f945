"""What every program that trains is told: the flags they share, each declared once.

A field's default, help and choices stand here and nowhere else; `cli.py` derives the flags.
This module does not import TensorFlow, so `--helpshort` answers at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

OPTIMIZER_NAMES = ("adamw", "adamw_bias_corrected", "lamb")
LR_SCHEDULES = ("google", "linear")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
TOKENIZATIONS = ("wordpiece", "sentencepiece")
STRATEGY_NAMES = (
    *("off", "one_device", "mirrored", "multi_worker_mirrored", "parameter_server", "tpu"),
)

SEVERAL_PROCESSES = ("multi_worker_mirrored", "parameter_server")


def cli_flag(
    default: Any,
    help: str,  # noqa: A002 - the name absl and argparse use
    *,
    choices: Sequence[str] | None = None,
    required: bool = False,
    free: bool = False,
) -> Any:
    """A dataclass field that is also a command-line flag.

    Args:
      default: value when the flag is left out.
      help: one sentence for `--help`.
      choices: the allowed values, when they are few.
      required: the flag must be given.
      free: the value may change when an interrupted run is continued, because training
        does not depend on it.
    """
    metadata = {"help": help, "choices": choices, "required": required, "free": free}
    return dataclasses.field(default=default, metadata=metadata)


def is_path(name: str) -> bool:
    """Whether a flag of this name holds paths, with commas in between."""
    return name.endswith(("_dir", "_file", "checkpoint"))


def check_values(config: Any) -> None:
    """Raises ValueError for a flag of a config that has no such value in any program."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        _require(
            not isinstance(value, float) or math.isfinite(value),
            f"--{field.name}={value}: give a number",
        )
        _require(
            value != "" or not is_path(field.name),
            f"--{field.name}= is empty; give a path, or leave the flag out",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Flags of every program that trains (those of google-research/bert's, and ours)."""

    output_dir: str = cli_flag(
        None, "Where checkpoints, records and results are written.", required=True, free=True
    )
    init_checkpoint: str | None = cli_flag(
        None,
        "Weights to start from: a folder, a TF1 checkpoint prefix, or a Hugging Face file. "
        "Left out, training starts from random weights.",
    )
    bert_config_file: str | None = cli_flag(
        None, "The model's config JSON; by default the one beside --init_checkpoint.", free=True
    )
    vocab_file: str | None = cli_flag(
        None, "The vocabulary; by default the one beside --init_checkpoint.", free=True
    )
    tokenization: str | None = cli_flag(
        None,
        "How words are cut into pieces: by --vocab_file or by --spm_model_file; by default what "
        "lies beside --init_checkpoint says.",
        choices=TOKENIZATIONS,
        free=True,
    )
    spm_model_file: str | None = cli_flag(
        None,
        "The SentencePiece model; by default the one beside --init_checkpoint: spiece.model, or "
        "the only file ending in .model.",
        free=True,
    )
    keep_special_tokens: bool | None = cli_flag(
        None,
        "Where a text literally says [MASK], [SEP], [CLS], [PAD], [UNK] or [unusedN], take it for "
        "that token; Google's code takes it for text. By default what the files beside "
        "--init_checkpoint say, else false.",
    )
    do_lower_case: bool | None = cli_flag(
        None,
        "Lower-case the text and drop accents: true for uncased models, false for cased ones; "
        "by default what the files beside --init_checkpoint say.",
    )
    allow_partial_checkpoint: bool = cli_flag(
        False, "Start even if --init_checkpoint lacks part of the encoder."
    )
    max_seq_length: int = cli_flag(
        128, "Longest input in word pieces, [CLS] and [SEP] included; longer ones are truncated."
    )
    do_train: bool = cli_flag(False, "Fine-tune on the training set.", free=True)
    do_eval: bool = cli_flag(False, "Evaluate on the development set.", free=True)
    train_batch_size: int = cli_flag(32, "Examples in one training step, over all devices.")
    eval_batch_size: int = cli_flag(8, "Examples in one evaluation batch.", free=True)
    learning_rate: float = cli_flag(5e-5, "Peak learning rate of Adam.")
    optimizer: str = cli_flag(
        "adamw",
        "How gradients become updates: Google's Adam, the same with moments corrected for bias, "
        "or LAMB for large batches.",
        choices=OPTIMIZER_NAMES,
    )
    lr_schedule: str = cli_flag(
        "google",
        "How the learning rate falls after warm-up: google, on the line from the peak at step 0 to "
        "0 at the last step, so that a warm-up of a tenth leaves 0.9 of the peak; linear, from the "
        "peak itself, as Hugging Face's transformers do.",
        choices=LR_SCHEDULES,
    )
    gradient_accumulation_steps: int = cli_flag(
        1,
        "Parts in which the --train_batch_size examples of a step are computed, one after "
        "another: the same step in less memory.",
        free=True,
    )
    recompute: bool = cli_flag(
        False,
        "Compute the activations of each layer once more when its gradient needs them, instead of "
        "keeping them: the same step in much less memory, a third more to compute.",
        free=True,
    )
    auto_batch: bool = cli_flag(
        False,
        "Where a step does not fit into memory, double --gradient_accumulation_steps until it "
        "does; it is tried before training.",
        free=True,
    )
    steps_per_execution: int = cli_flag(
        1, "Training steps in one call of the graph; saves calls where steps are short.", free=True
    )
    use_xla: bool | None = cli_flag(
        None,
        "Compile the training step with XLA. Batches then have one static shape, as with "
        "--pad_to_max_seq_length. Left out, it is compiled for GPUs and not for processors.",
    )
    use_one_hot_embeddings: bool | None = cli_flag(
        None,
        "Look words up by a matrix product, as Google's programs do on a TPU. Left out, on a TPU "
        "only.",
    )
    layerwise_lr_decay: float = cli_flag(
        1.0,
        "The learning rate of each layer as a share of that of the layer above it; "
        "the head and the pooler have all of it.",
    )
    freeze_layers: int | None = cli_flag(
        None,
        "Keep the embeddings and this many layers, from the first, as they are; 0 keeps the "
        "embeddings only. Left out, everything is trained.",
    )
    save_checkpoints_steps: int = cli_flag(1000, "Steps between two checkpoints.", free=True)
    iterations_per_loop: int = cli_flag(
        1000, "Steps between two readings of the loss, with --use_tpu.", free=True
    )
    eval_steps: int = cli_flag(
        0,
        "Evaluate every so many steps of training; the checkpoint that was best by the task's "
        "metric becomes the final model. 0 evaluates once, after training.",
    )
    early_stopping_patience: int = cli_flag(
        0,
        "Stop after so many evaluations (--eval_steps) in a row that were no better than the best "
        "one; 0 trains to the end.",
    )
    random_seed: int = cli_flag(12345, "Seed of the order of examples, dropout and new weights.")
    precision: str = cli_flag(
        "float32",
        "Arithmetic of the matrix products; weights are float32 either way. mixed_float16, for "
        "GPUs without bfloat16, scales the loss as gradients allow.",
        choices=PRECISIONS,
    )
    pad_to_max_seq_length: bool = cli_flag(
        False,
        "Pad every batch to --max_seq_length instead of to its own longest row. The loss is the "
        "same; one static shape suits compilers (implied by --use_tpu).",
        free=True,
    )
    distribution_strategy: str = cli_flag(
        "off",
        "Which devices compute: off (the first GPU, or else the CPU), one_device (the same, "
        "fixed), mirrored (all GPUs of this machine), multi_worker_mirrored (several machines), "
        "parameter_server (workers at their own pace), tpu.",
        choices=STRATEGY_NAMES,
        free=True,
    )
    num_gpus: int | None = cli_flag(
        None, "How many GPUs of this machine are used; left out, all. 0: the processor.", free=True
    )
    use_tpu: bool = cli_flag(False, "Same as --distribution_strategy=tpu.", free=True)
    tpu_name: str | None = cli_flag(None, "Name or grpc:// address of the TPU.", free=True)
    tpu_zone: str | None = cli_flag(None, "Cloud zone of the TPU.", free=True)
    gcp_project: str | None = cli_flag(None, "Cloud project of the TPU.", free=True)
    master: str | None = cli_flag(None, "TensorFlow address of the TPU, if no name.", free=True)
    num_tpu_cores: int = cli_flag(8, "Cores the TPU must have, with --use_tpu.", free=True)

    export_dir: str | None = cli_flag(
        None,
        "Also write SavedModels for TF Serving here: text/<version>/ and features/<version>/.",
        free=True,
    )

    def __post_init__(self) -> None:
        check_values(self)
        self._check_tokenizer_file()
        self.require_positive(*_POSITIVE)
        _require(
            self.max_seq_length >= 3,
            f"--max_seq_length={self.max_seq_length} leaves no room for a word "
            "between [CLS] and [SEP]; give 3 or more",
        )
        _require(self.learning_rate > 0, f"--learning_rate={self.learning_rate}: give more than 0")
        _require(
            0 <= self.random_seed < 2**31,
            f"--random_seed={self.random_seed}: give a number from 0 to 2147483647",
        )
        _require(
            self.num_gpus is None or self.num_gpus >= 0,
            f"--num_gpus={self.num_gpus}: give 0 or more",
        )
        for name in ("eval_steps", "early_stopping_patience"):
            _require(getattr(self, name) >= 0, f"--{name}={getattr(self, name)}: give 0 or more")
        _require(
            not self.eval_steps or (self.do_train and self.do_eval),
            f"--eval_steps={self.eval_steps} evaluates during training; "
            "it needs --do_train=true and --do_eval=true",
        )

        _require(
            not self.early_stopping_patience or self.eval_steps > 0,
            f"--early_stopping_patience={self.early_stopping_patience} counts evaluations; say "
            "with --eval_steps how often there is one",
        )
        _require(
            0 < self.layerwise_lr_decay <= 1,
            f"--layerwise_lr_decay={self.layerwise_lr_decay}: give a share above 0, up to 1",
        )
        _require(
            self.freeze_layers is None or self.freeze_layers >= 0,
            f"--freeze_layers={self.freeze_layers}: give 0 or more",
        )

    def _check_tokenizer_file(self) -> None:
        for name, kind, file in (
            ("vocab_file", "wordpiece", self.vocab_file),
            ("spm_model_file", "sentencepiece", self.spm_model_file),
        ):
            _require(
                file is None or self.tokenization in (None, kind),
                f"--{name}={file} is for --tokenization={kind}, not for {self.tokenization}; "
                "leave one of them out",
            )
        _require(
            self.vocab_file is None or self.spm_model_file is None,
            f"--vocab_file={self.vocab_file} and --spm_model_file={self.spm_model_file} tokenize "
            "in two ways; leave one of them out",
        )

    def require_positive(self, *names: str) -> None:
        """Raises ValueError for a flag that is below 1."""
        for name in names:
            _require(getattr(self, name) >= 1, f"--{name}={getattr(self, name)}: give 1 or more")

    def check_inputs(self) -> None:
        """Checks what the flags name, as far as that needs no TensorFlow; programs add theirs.

        Raises:
          ValueError: a file or folder is missing or cannot be what its flag asks for.
        """

    def bound(self) -> dict[str, Any]:
        """The values that an interrupted run must have kept to be continued."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if not f.metadata["free"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingConfig):
    """Flags of a fine-tuning program (`run_classifier.py` of google-research/bert, and ours)."""

    do_predict: bool = cli_flag(False, "Predict the test set.", free=True)
    predict_batch_size: int = cli_flag(8, "Examples in one prediction batch.", free=True)
    num_train_epochs: float = cli_flag(3.0, "Passes over the training set.")
    warmup_proportion: float = cli_flag(
        0.1, "Share of the steps in which the learning rate grows from zero."
    )
    export_precision: str = cli_flag(
        "float32",
        "What exports compute in. bfloat16 and int8 (for LiteRT, as int8/<version>/) are measured "
        "on the development set first, beside float32; their README.md has the numbers.",
        choices=("float32", "bfloat16", "int8"),
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("predict_batch_size")
        _require(
            0 <= self.warmup_proportion <= 1,
            f"--warmup_proportion={self.warmup_proportion}: give a share from 0 to 1",
        )
        _require(
            self.num_train_epochs > 0,
            f"--num_train_epochs={self.num_train_epochs}: give more than 0",
        )
        _require(
            self.export_precision == "float32" or self.export_dir is not None,
            f"--export_precision={self.export_precision} is for exports; give --export_dir",
        )

    def require_action(self) -> None:
        """Raises ValueError unless the flags ask for something to be done."""
        _require(
            self.do_train or self.do_eval or self.do_predict or self.export_dir is not None,
            "At least one of `do_train`, `do_eval` or `do_predict' must be True."
            " (--export_dir alone exports a trained --output_dir.)",
        )


def shared_flag(name: str, config: type[TrainingConfig] = RunConfig, **changes: Any) -> Any:
    """The flag of a config as a field of another program's config, but for `changes`."""
    field = next(field for field in dataclasses.fields(config) if field.name == name)
    return cli_flag(**{"default": field.default, **field.metadata, **changes})


_POSITIVE = (
    "train_batch_size",
    "eval_batch_size",
    "gradient_accumulation_steps",
    "steps_per_execution",
    "save_checkpoints_steps",
    "iterations_per_loop",
    "num_tpu_cores",
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
