"""What every program that trains is told: the flags they share, each declared once.

A field's default, help and choices stand here and nowhere else; `cli.py` derives the flags.
This module does not import TensorFlow, so `--helpshort` answers at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

PRECISIONS = ("float32", "mixed_bfloat16")
STRATEGY_NAMES = ("one_device", "mirrored", "tpu")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Flags of a fine-tuning program (`run_classifier.py` of google-research/bert, and ours)."""

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
    do_predict: bool = cli_flag(False, "Predict the test set.", free=True)
    train_batch_size: int = cli_flag(32, "Examples in one training step, over all devices.")
    eval_batch_size: int = cli_flag(8, "Examples in one evaluation batch.", free=True)
    predict_batch_size: int = cli_flag(8, "Examples in one prediction batch.", free=True)
    learning_rate: float = cli_flag(5e-5, "Peak learning rate of Adam.")
    num_train_epochs: float = cli_flag(3.0, "Passes over the training set.")
    warmup_proportion: float = cli_flag(
        0.1, "Share of the steps in which the learning rate grows from zero."
    )
    save_checkpoints_steps: int = cli_flag(1000, "Steps between two checkpoints.", free=True)
    iterations_per_loop: int = cli_flag(
        1000, "Steps between two readings of the loss, with --use_tpu.", free=True
    )
    eval_steps: int = cli_flag(
        0,
        "Evaluate every so many steps of training and keep the checkpoint that was best; "
        "0 evaluates once, after training.",
        free=True,
    )
    random_seed: int = cli_flag(12345, "Seed of the order of examples, dropout and new weights.")
    precision: str = cli_flag(
        "float32",
        "Arithmetic of the matrix products; weights are float32 either way.",
        choices=PRECISIONS,
    )
    pad_to_max_seq_length: bool = cli_flag(
        False,
        "Pad every batch to --max_seq_length instead of to its own longest row. The loss is the "
        "same; one static shape suits compilers (implied by --use_tpu).",
        free=True,
    )
    distribution_strategy: str = cli_flag(
        "one_device", "How the devices are used.", choices=STRATEGY_NAMES, free=True
    )
    use_tpu: bool = cli_flag(False, "Same as --distribution_strategy=tpu.", free=True)
    tpu_name: str | None = cli_flag(None, "Name or grpc:// address of the TPU.", free=True)
    tpu_zone: str | None = cli_flag(None, "Cloud zone of the TPU.", free=True)
    gcp_project: str | None = cli_flag(None, "Cloud project of the TPU.", free=True)
    master: str | None = cli_flag(None, "TensorFlow address of the TPU, if no name.", free=True)
    num_tpu_cores: int = cli_flag(8, "Cores the TPU must have, with --use_tpu.", free=True)

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            _require(getattr(self, name) >= 1, f"--{name}={getattr(self, name)}: give 1 or more")
        _require(
            self.max_seq_length >= 3,
            f"--max_seq_length={self.max_seq_length} leaves no room for a word "
            "between [CLS] and [SEP]; give 3 or more",
        )
        _require(
            0 <= self.warmup_proportion <= 1,
            f"--warmup_proportion={self.warmup_proportion}: give a share from 0 to 1",
        )
        _require(
            self.num_train_epochs > 0,
            f"--num_train_epochs={self.num_train_epochs}: give more than 0",
        )
        _require(
            0 <= self.random_seed < 2**31,
            f"--random_seed={self.random_seed}: give a number from 0 to 2147483647",
        )
        _require(self.eval_steps >= 0, f"--eval_steps={self.eval_steps}: give 0 or more")
        _require(
            not self.eval_steps or (self.do_train and self.do_eval),
            f"--eval_steps={self.eval_steps} evaluates during training; "
            "it needs --do_train=true and --do_eval=true",
        )

    def bound(self) -> dict[str, Any]:
        """The values that an interrupted run must have kept to be continued."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if not f.metadata["free"]}


def shared_flag(name: str, **changes: Any) -> Any:
    """The flag of `RunConfig` as a field of another program's config, but for `changes`."""
    field = next(field for field in dataclasses.fields(RunConfig) if field.name == name)
    return cli_flag(**{"default": field.default, **field.metadata, **changes})


_POSITIVE = (
    "train_batch_size",
    "eval_batch_size",
    "predict_batch_size",
    "save_checkpoints_steps",
    "iterations_per_loop",
    "num_tpu_cores",
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
