"""What a server finds out about its model before any worker loads it: files, tokenizer, task."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from bert_tf import checkpoints
from bert_tf.base_tokenizer import Tokenizer
from bert_tf.config import BertConfig
from bert_tf.serving.flags import DEFAULT_LENGTH, PoolingStrategy
from bert_tf.tokenization import create_tokenizer

# What a fine-tuned model may have been trained for; the first where nothing tells.
_TASKS = {
    PoolingStrategy.CLASSIFICATION: ("classification", "multilabel"),
    PoolingStrategy.REGRESSION: ("regression",),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a worker is told of its model.

    Attributes:
      weights: what `checkpoints.load` takes.
      max_length: pieces of a row at most.
      long_text: what becomes of a longer text, as `bert_tf.packing.pack` takes it.
      notices: what to tell who starts the server, about lengths.
      task_type: of a fine-tuned model that answers by its head, else None.
      labels: names of the head's outputs; none of a regression.
    """

    weights: str
    config: BertConfig
    max_length: int
    long_text: str
    notices: tuple[str, ...]
    task_type: str | None
    labels: tuple[str, ...]
    arguments: argparse.Namespace


def read(arguments: argparse.Namespace) -> tuple[Plan, Tokenizer]:
    """The plan, and what makes tokens of texts.

    Raises ValueError naming the flag that does not fit, or the file that is missing.
    """
    folder = arguments.model_dir
    tuned = arguments.tuned_model_dir or folder
    weights = os.path.join(tuned, arguments.ckpt_name) if arguments.ckpt_name else tuned
    place = _located("model_dir", folder if tuned != folder else weights)
    tuned_place = _located("tuned_model_dir" if tuned != folder else "model_dir", weights)
    if tuned_place.weights is None:
        raise ValueError(
            f"-model_dir={tuned} holds no weights; bert_model.ckpt.index, model.safetensors, "
            "pytorch_model.bin, *.h5 and *.pdparams were looked for, or give -ckpt_name"
        )
    if arguments.config_name:
        file = os.path.join(folder, arguments.config_name)
        config = BertConfig.from_json_file(file)
    elif (found := checkpoints.config_of(place)) is not None:
        config = found
    else:
        raise ValueError(f"-model_dir={folder} has no bert_config.json or config.json")
    _check_layers(arguments, config)
    task_type, labels = _task(arguments, tuned_place)
    trained = checkpoints.saved_task(tuned_place.weights) or {}
    arguments, notices = _with_length(arguments, config, trained, task_type)
    plan = Plan(
        tuned_place.weights,
        config,
        arguments.max_seq_len or config.max_position_embeddings,
        "head_tail" if task_type and trained.get("long_text") == "head_tail" else "truncate",
        notices,
        task_type,
        labels,
        arguments,
    )
    return plan, _tokenizer(arguments, place, config)


def _located(flag: str, path: str) -> checkpoints.Location:
    try:
        return checkpoints.locate(path)
    except ValueError as error:
        raise ValueError(f"-{flag}: {error}") from error


def _tokenizer(
    arguments: argparse.Namespace, place: checkpoints.Location, config: BertConfig
) -> Tokenizer:
    if not place.tokenizer_file:
        raise ValueError(f"-model_dir={arguments.model_dir} has no vocab.txt or spiece.model")
    tokenizer = create_tokenizer(
        **place.tokenizer_file,
        do_lower_case=place.lower_cases and not arguments.cased_tokenization,
        keep_special_tokens=place.keep_special_tokens,
    )
    tokenizer.check_model(config.vocab_size)
    return tokenizer


def _task(
    arguments: argparse.Namespace, place: checkpoints.Location
) -> tuple[str | None, tuple[str, ...]]:
    """Task and labels as they are noted beside the weights, where a head is asked for."""
    strategy = arguments.pooling_strategy
    if strategy not in _TASKS:
        return None, ()
    path = place.weights or arguments.model_dir
    labels = tuple(checkpoints.saved_labels(path) or ())
    noted = checkpoints.noted_task_type(path)
    allowed = _TASKS[strategy]
    if noted not in (None, *allowed):
        raise ValueError(f"-pooling_strategy={strategy}, but {path} is a model for {noted}")
    return noted or allowed[0], labels


def _with_length(
    arguments: argparse.Namespace,
    config: BertConfig,
    trained: Mapping[str, Any],
    task_type: str | None,
) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """Return the arguments with `max_seq_len`, and what to say about it.

    Args:
      trained: what task.json says of the weights.
      task_type: of the head that answers, or None.
    """
    positions, notices = config.max_position_embeddings, []
    length = _trained_length(trained, positions)
    if "max_seq_len" in arguments:
        asked, why = arguments.max_seq_len, "-max_seq_len"
    elif length is not None:
        asked, why = length, "the length that the model was trained for"
    elif task_type is not None:
        asked, why = positions, "the model's limit; no trained length is noted"
    else:
        asked, why = min(DEFAULT_LENGTH, positions), "the default; -max_seq_len changes it"
    if asked is not None and asked > positions:
        raise ValueError(
            f"-max_seq_len={asked} exceeds this model's {positions} positions; use {positions} or "
            "less, or NONE"
        )
    limit = positions if asked is None else asked
    notices.append(f"texts are cut to {limit} pieces ({why})")
    if length is not None and limit < length:
        notices.append(
            f"WARNING: -max_seq_len={limit} is less than the {length} pieces that this model was "
            "trained for; it answers longer texts otherwise than in training; leave -max_seq_len "
            f"out, or use {length}"
        )
    if task_type is not None and trained.get("long_text") == "windows":
        notices.append(
            "WARNING: this model was trained with --long_text=windows; the server cuts a longer "
            "text to its first window; predict such texts with run_classifier.py or an export"
        )
    given = argparse.Namespace(**vars(arguments) | {"max_seq_len": asked})
    return given, tuple(notices)


def _trained_length(trained: Mapping[str, Any], positions: int) -> int | None:
    """Return the length that a fine-tuned model was trained for, if task.json notes one."""
    length = trained.get("max_seq_length")
    if length is None or trained["task_type"] == "masked_lm":  # an encoder, not fine-tuned
        return None
    if not isinstance(length, int) or not 3 <= length <= positions:
        raise ValueError(
            f"task.json: max_seq_length={length!r:.40} is not a number from 3 to this model's "
            f"{positions} positions; mend task.json, or remove it and give -max_seq_len"
        )
    return length


def _check_layers(arguments: argparse.Namespace, config: BertConfig) -> None:
    layers = config.num_hidden_layers
    for layer in arguments.pooling_layer:
        if not -layers <= layer < layers:
            raise ValueError(
                f"-pooling_layer={layer}: this model has {layers} layers, 0 to {layers - 1} or "
                f"-{layers} to -1"
            )
