"""Whether the paths that flags name can be what they are for. Without TensorFlow, in a moment.

Remote paths are left to TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from bert_tf import filesystem
from bert_tf.checkpoints import location
from bert_tf.config import BertConfig
from bert_tf.tokenization import create_tokenizer

_READERS: dict[str, Callable[[str], object]] = {
    "bert_config_file": BertConfig.from_json_file,
    "vocab_file": lambda path: create_tokenizer(vocab_file=path),
    "spm_model_file": lambda path: create_tokenizer(spm_model_file=path),
}
_FOLDERS = ("output_dir", "export_dir")
_FILES_TO_WRITE = ("output_file",)


def check(config: Any) -> None:
    """Check the paths of a program's flags, as far as it has them.

    Raises:
      ValueError: a checkpoint, file or folder is missing, or cannot be read or written.
    """
    for name in _READERS:
        if (path := _local(config, name)) is not None:
            _check_file(f"--{name}={path}", path, _READERS[name])
    for name in _FOLDERS:
        if (path := _local(config, name)) is not None:
            check_folder(f"--{name}={path}", path)
    for name in _FILES_TO_WRITE:
        for path in (getattr(config, name, None) or "").split(","):
            if path and not filesystem.is_remote(path):
                if os.path.isdir(path):
                    raise ValueError(f"--{name}={path} is a folder; give the name of a file")
                check_folder(f"--{name}={path}", os.path.dirname(path))
    own = _local(config, "output_dir")
    begins = own is not None and not os.path.exists(own) and config.do_train
    if begins and config.init_checkpoint is None and config.bert_config_file is None:
        raise ValueError(
            "--init_checkpoint is needed, which training starts from; or --bert_config_file, to "
            "start from random weights"
        )
    for name in ("init_checkpoint", "checkpoint"):
        # A run that is continued does not need it any more.
        if (path := _local(config, name)) is not None and not (own and location.state_names(own)):
            check_checkpoint(f"--{name}={path}", path)


def check_checkpoint(what: str, path: str) -> None:
    """Raises ValueError unless there are weights at a local path; `what` names it in messages."""
    try:
        place = location.locate(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{what}: {error}") from error
    if place.weights is None:
        raise ValueError(f"{what}: there are no weights in this folder")


def check_folder(what: str, path: str) -> None:
    """Raises ValueError unless the folder can be made and written to; nothing is made."""
    there = os.path.abspath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise ValueError(f"{what}: {there} is a file, not a folder; give another name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{what}: nothing can be written into {there}; give another folder")


def _local(config: Any, name: str) -> str | None:
    path = getattr(config, name, None)
    return None if path is None or filesystem.is_remote(path) else path


def _check_file(what: str, path: str, read: Callable[[str], object]) -> None:
    if not os.path.exists(path):
        raise ValueError(f"{what}: there is no such file")
    if not os.path.isfile(path):
        raise ValueError(f"{what} is no file")
    location.refuse_pointer(path)
    try:
        read(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{what}: {error}") from error
