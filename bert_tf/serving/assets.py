"""What a server finds out about its model before any worker loads it: files, tokenizer, task."""

from __future__ import annotations

import argparse
import dataclasses
import os

from bert_tf import checkpoints
from bert_tf.base_tokenizer import Tokenizer
from bert_tf.config import BertConfig
from bert_tf.serving.flags import PoolingStrategy
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
      task_type: of a fine-tuned model that answers by its head, else None.
      labels: names of the head's outputs; none of a regression.
    """

    weights: str
    config: BertConfig
    max_length: int
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
    plan = Plan(
        tuned_place.weights,
        config,
        _max_length(arguments, config),
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


def _max_length(arguments: argparse.Namespace, config: BertConfig) -> int:
    positions, asked = config.max_position_embeddings, arguments.max_seq_len
    if asked is not None and asked > positions:
        raise ValueError(
            f"-max_seq_len={asked} exceeds this model's {positions} positions; use {positions} or "
            "less, or NONE"
        )
    return positions if asked is None else asked


def _check_layers(arguments: argparse.Namespace, config: BertConfig) -> None:
    layers = config.num_hidden_layers
    for layer in arguments.pooling_layer:
        if not -layers <= layer < layers:
            raise ValueError(
                f"-pooling_layer={layer}: this model has {layers} layers, 0 to {layers - 1} or "
                f"-{layers} to -1"
            )
