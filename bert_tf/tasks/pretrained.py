"""What every task takes from `--init_checkpoint` and leaves behind for the next one."""

from __future__ import annotations

import os
from typing import Any, Protocol

import keras
import tensorflow as tf
from absl import logging

from bert_tf import checkpoints, filesystem, run_folder
from bert_tf.checkpoints.location import LABELS_FILE, check_size
from bert_tf.config import BertConfig
from bert_tf.run_config import TOKENIZATIONS, TrainingConfig
from bert_tf.tokenization import (
    Tokenizer,
    create_tokenizer,
    validate_case_matches_checkpoint,
)

FINAL_MODEL = "final_model"


class ModelFlags(Protocol):
    """What the flags of every program say about its model."""

    init_checkpoint: str | None
    bert_config_file: str | None
    vocab_file: str | None
    tokenization: str | None
    spm_model_file: str | None
    keep_special_tokens: bool | None
    do_lower_case: bool | None
    max_seq_length: int


def architecture(
    config: ModelFlags, source: str | None, needs_tokenizer: bool = True
) -> tuple[BertConfig, Tokenizer | None]:
    """The model's config and its tokenizer: from the flags, else from beside the checkpoint.

    Where there is no checkpoint, what lies beside `--bert_config_file` serves as well.

    Args:
      config: the run's flags.
      source: the checkpoint that the run starts from or uses; None where it has none, and
        `config` an output_dir.
      needs_tokenizer: whether it is an error if there is no vocabulary; else there is no tokenizer.

    Raises:
      ValueError: one of them is nowhere to be found, or they do not fit together or the flags.
    """
    place = _place(config, source)
    bert_config, config_file = _bert_config(config, place, source)
    name, file = _tokenizer_file(config, place)
    if file is not None or needs_tokenizer:
        _check_there(name, file, source)
    positions = bert_config.max_position_embeddings
    if config.max_seq_length > positions:
        raise ValueError(
            f"--max_seq_length={config.max_seq_length} exceeds this model's {positions} "
            f"positions; use {positions} or less"
        )
    if file is None:
        print(f"Model: {config_file}; no vocabulary (--vocab_file) goes with it", flush=True)
        return bert_config, None
    lower, reason = _casing(config, place)
    keep = config.keep_special_tokens
    tokenizer = create_tokenizer(
        **{name: file},
        do_lower_case=lower,
        keep_special_tokens=place.keep_special_tokens if keep is None else keep,
    )
    tokenizer.check_model(bert_config.vocab_size, config_file)
    case = "lower-cased" if lower else "cased"
    kept = ", special tokens kept" if tokenizer.keep_special_tokens else ""
    print(f"Model: {config_file}; vocabulary: {file}, {case} ({reason}){kept}", flush=True)
    return bert_config, tokenizer


def _place(config: ModelFlags, source: str | None) -> checkpoints.Location:
    beside = os.path.dirname(config.bert_config_file or "") if source is None else None
    try:
        return checkpoints.locate(source or beside or config.output_dir)
    except ValueError as error:
        given = "bert_config_file" if beside else "init_checkpoint"
        raise ValueError(f"--{given}={getattr(config, given)}: {error}") from error


def _bert_config(
    config: ModelFlags, place: checkpoints.Location, source: str | None
) -> tuple[BertConfig, str]:
    """The config, and the file that it is from: its own, or a SavedModel's weights."""
    file = config.bert_config_file
    if file is None and (found := checkpoints.config_of(place)):
        return found, place.config_file or place.weights
    _check_there("bert_config_file", file, source)
    bert_config = BertConfig.from_json_file(file)
    if source is not None:
        check_size(bert_config, place, file)
    return bert_config, file


def _tokenizer_file(config: ModelFlags, place: checkpoints.Location) -> tuple[str, str | None]:
    """The flag that says what text is tokenized by, and its value or what lies there instead."""
    given = {"wordpiece": config.vocab_file, "sentencepiece": config.spm_model_file}
    found = {"wordpiece": place.vocab_file, "sentencepiece": place.spm_model_file}
    kinds = [config.tokenization] if config.tokenization else list(TOKENIZATIONS)
    files = [(kind, files[kind]) for files in (given, found) for kind in kinds if files[kind]]
    kind, file = files[0] if files else (kinds[0], None)
    return {"wordpiece": "vocab_file", "sentencepiece": "spm_model_file"}[kind], file


def _check_there(name: str, file: str | None, source: str | None) -> None:
    if file is None:
        where = f"there is none beside {source}" if source else "no checkpoint is given"
        raise ValueError(f"--{name} is needed: {where}")
    if not filesystem.is_file(file):
        raise ValueError(f"--{name}={file}: there is no such file")


def _casing(config: ModelFlags, place: checkpoints.Location) -> tuple[bool, str]:
    """Whether text is lower-cased, and who says so: the flag, the checkpoint, or the default."""
    if config.do_lower_case is None:
        if place.do_lower_case is None:
            return place.lower_cases, "the default"
        return place.do_lower_case, place.case_reason
    validate_case_matches_checkpoint(config.do_lower_case, place.weights)
    if place.do_lower_case not in (None, config.do_lower_case):
        logging.warning(
            "--do_lower_case=%s, but %s says %s",
            *(config.do_lower_case, place.case_reason, place.do_lower_case),
        )
    return config.do_lower_case, "--do_lower_case"


def load(model: keras.Model, path: str, config: TrainingConfig) -> checkpoints.LoadReport:
    """Loads weights and prints the report of every one of them."""
    report = checkpoints.load(model, path, allow_partial=config.allow_partial_checkpoint)
    print(report, flush=True)
    return report


def save_description(
    folder: str,
    bert_config: BertConfig,
    tokenizer: Tokenizer | None,
    labels: list[str],
    task: dict[str, Any],
) -> None:
    """Puts config, vocabulary, casing, labels and task beside the checkpoints of a run."""
    checkpoints.save_description(folder, bert_config, task, **_settings(tokenizer))
    run_folder.write_json(tf.io.gfile.join(folder, LABELS_FILE), labels)


def save_final(
    model: Any,
    output_dir: str,
    tokenizer: Tokenizer | None,
    labels: list[str],
    task: dict[str, Any],
) -> str:
    """Writes `final_model/`: the weights without optimizer slots, and all that describes them.

    Returns:
      The folder; `--init_checkpoint` and `from_pretrained` take it.
    """
    folder = tf.io.gfile.join(output_dir, FINAL_MODEL)
    checkpoints.save(
        model,
        tf.io.gfile.join(folder, "bert_model.ckpt"),
        "google",
        labels=labels,
        task=task,
        **_settings(tokenizer),
    )
    return folder


def _settings(tokenizer: Tokenizer | None) -> dict[str, Any]:
    return {} if tokenizer is None else tokenizer.settings
