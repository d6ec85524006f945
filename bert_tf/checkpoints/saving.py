"""Writing checkpoints: one call for four formats."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bert_tf import filesystem
from bert_tf.checkpoints import location
from bert_tf.vocabulary import plain_contents

if TYPE_CHECKING:
    import keras

    from bert_tf.config import BertConfig

_CONFIG_FILE = location.CONFIG_FILES[location.GOOGLE][0]


def save(
    source: keras.layers.Layer | Mapping[str, Any],
    path: str | os.PathLike[str],
    format: str,
    *,
    config: BertConfig | None = None,
    labels: Sequence[str] | None = None,
    task: Mapping[str, Any] | None = None,
    **tokenizer_settings: Any,
) -> str:
    """Writes a checkpoint, complete or not at all; returns the path of its weights.

    Args:
      source: a model, or arrays or variables under Google's names.
      path: a prefix ending in `.ckpt` or `.ckpt-N` ("google"), a file ending in `.safetensors`
        ("huggingface") or `.weights.h5` ("keras"), or else a folder, for the usual name.
      format: "google", "huggingface", "keras" or "model_garden" (object-based; its files end as
        Google's). Only Google's keeps an optimizer's state.
      config: written beside the weights; a model's own if not given. All but Google's need it.
      labels, task: noted beside the weights if given, in labels.json (a classifier's; also in
        config.json) and task.json (see `saved_task`).
      tokenizer_settings: arguments of `create_tokenizer`: vocab_file or spm_model_file is copied
        beside the weights, the others are noted there, in tokenizer_config.json.

    Raises:
      ValueError: an unknown format, a config is needed, or the labels are not the classifier's.
      OSError: the files could not be written; nothing is left behind.
    """
    if format not in location.FORMATS:
        raise ValueError(f"format={format!r}; use one of {', '.join(location.FORMATS)}")
    path = _target(os.fspath(path), format)
    if not isinstance(source, Mapping):
        config = config or getattr(getattr(source, "bert", source), "config", None)
    beside = _small_files(labels, task, **tokenizer_settings)
    if config is not None and format != location.HUGGING_FACE:
        beside[_CONFIG_FILE] = config.to_json_string().encode()
    if config is None and format != location.GOOGLE:
        raise ValueError(f"{path}: writing {format} weights needs the config; pass config=")
    _write(format, path, source, config, beside, labels)
    return path


def refuse_replacing(
    flag: str, path: str, format: str, source: str, inputs: Iterable[str] = ()
) -> None:
    """Raise ValueError if `save` would replace a file that is read to make what is saved.

    Google's config, and the vocabulary, are no such files: what is written again says the same.
    Hugging Face's config.json and tokenizer_config.json say more than we write.

    Args:
      flag: what gives `path`, for the message.
      path, format: as `save`.
      source: the checkpoint that is read.
      inputs: what else is read and must stay.
    """
    place, weights = location.locate(source), _target(path, format)
    (theirs, ours) = location.CONFIG_FILES[location.HUGGING_FACE]
    config = theirs if format == location.HUGGING_FACE else ours
    beside = (config, location.TOKENIZER_FILE, location.VOCAB_FILE)
    written = [weights, *(os.path.join(os.path.dirname(weights), name) for name in beside)]
    read = [*inputs, *filter(None, [place.weights])]
    if place.config_file is not None and os.path.basename(place.config_file) == theirs:
        folder = os.path.dirname(place.config_file)
        read += [place.config_file, os.path.join(folder, location.TOKENIZER_FILE)]
    filesystem.refuse_overwriting(flag, written, read)


def _write(
    format: str, path: str, source: Any, config: Any, beside: Any, labels: Sequence[str] | None
) -> None:
    if format == location.GOOGLE:
        from bert_tf.checkpoints import google

        google.write(path, _tensors(source), beside)
    elif format == location.HUGGING_FACE:
        from bert_tf.checkpoints import huggingface

        huggingface.write(path, _tensors(source), config, beside, labels)
    elif format == location.KERAS:
        from bert_tf.checkpoints import keras_h5

        keras_h5.write(path, source, config, beside)
    else:
        from bert_tf.checkpoints import model_garden

        model_garden.write(path, _tensors(source), config, beside)


def save_description(
    folder: str,
    config: BertConfig,
    task: Mapping[str, Any] | None = None,
    **tokenizer_settings: Any,
) -> None:
    """Writes what else `from_pretrained` needs: bert_config.json, and the tokenizer's files.

    Args:
      tokenizer_settings: as `save`.

    And task.json, if a task is given.

    Raises:
      OSError: as `save`.
    """
    from bert_tf.checkpoints.files import write_file

    contents = _small_files(task=task, **tokenizer_settings)
    contents[_CONFIG_FILE] = config.to_json_string().encode()
    for name, data in contents.items():
        write_file(os.path.join(folder, name), data)


def _small_files(
    labels: Sequence[str] | None = None,
    task: Mapping[str, Any] | None = None,
    vocab_file: str | None = None,
    spm_model_file: str | None = None,
    do_lower_case: bool | None = None,
    keep_special_tokens: bool = False,
) -> dict[str, bytes]:
    files = {}
    settings: dict[str, Any] = {}
    if vocab_file is not None:
        files[location.VOCAB_FILE] = plain_contents(vocab_file)
    if spm_model_file is not None:
        files[location.SPM_MODEL_FILE] = filesystem.read_bytes(spm_model_file)
        settings["tokenizer_class"] = location.SPM_TOKENIZER_CLASS
    if do_lower_case is not None:
        settings["do_lower_case"] = do_lower_case
    if keep_special_tokens:
        settings["keep_special_tokens"] = True
    if settings:
        files[location.TOKENIZER_FILE] = _json(settings)
    if labels is not None:
        files[location.LABELS_FILE] = _json(list(labels))
    if task is not None:
        files[location.TASK_FILE] = _json(dict(task))
    return files


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _tensors(source: keras.layers.Layer | Mapping[str, Any]) -> Mapping[str, Any]:
    from bert_tf.checkpoints.loading import named_weights

    return source if isinstance(source, Mapping) else named_weights(source)


def _target(path: str, format: str) -> str:
    """`path`; where its ending does not name the format it is a folder, for the usual name."""
    is_folder = not location.weights_at(path) and filesystem.is_dir(path)
    named = location.GOOGLE if format == location.MODEL_GARDEN else format
    if location.format_of(path) == named and not is_folder:
        return path
    return os.path.join(path, location.DEFAULT_NAMES[format])
