"""Where a checkpoint's weights, config and vocabulary lie, in whichever layout it has.

Google's release folder, Hugging Face's (sentence-transformers' included), ERNIE's, a SavedModel's,
KerasHub's, an output_dir of ours, or a prefix or file with the rest beside it. Nothing but names
and small files is read.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import string
from collections.abc import Iterator
from typing import Any

from absl import logging

from bert_tf import filesystem
from bert_tf.config import BertConfig
from bert_tf.vocabulary import load_vocab, tokenizer_json

GOOGLE, HUGGING_FACE, KERAS, MODEL_GARDEN = "google", "huggingface", "keras", "model_garden"
FORMATS = (GOOGLE, HUGGING_FACE, KERAS, MODEL_GARDEN)
PADDLE = "paddle"  # which is read only

STATE_FILE = "checkpoint"  # TensorFlow's note of the latest checkpoint in a folder
BEST_FILE = "best_checkpoint.json"  # a run's note of its best checkpoint
VOCAB_FILE = "vocab.txt"
SPM_MODEL_FILE = "spiece.model"
LABELS_FILE = "labels.json"  # a classifier's labels, a JSON list in the order of its outputs
TASK_FILE = "task.json"  # what the model was trained to do, a JSON object with its settings
TOKENIZER_FILE = "tokenizer_config.json"
TOKENIZER_JSON = "tokenizer.json"  # Hugging Face's; KerasHub has another file of this name
CONFIG_FILES = {
    GOOGLE: ("bert_config.json", "config.json"),
    HUGGING_FACE: ("config.json", "bert_config.json"),
    KERAS: ("bert_config.json", "config.json"),
    PADDLE: ("model_config.json", "ernie_config.json", "config.json", "bert_config.json"),
}
DEFAULT_NAMES = {
    GOOGLE: "bert_model.ckpt",
    HUGGING_FACE: "model.safetensors",
    KERAS: "model.weights.h5",
    MODEL_GARDEN: "bert_model.ckpt",
}
_HUGGING_FACE_NAMES = (  # the first that is there
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "model_state.pdparams",
)
_HUGGING_FACE_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")
_SHARD_ENDINGS = (".safetensors", ".bin")
_SMALL = 20_000_000  # numbers in a model, 80 MB
_PARAMETERS_PER_BYTE = 4  # layers may share their weights, and a part of a model be accepted
_KERAS_ENDING = ".weights.h5"  # what is written; others write any .h5, or an archive
_KERAS_ENDINGS = (".h5", ".hdf5", ".keras")
_PADDLE_ENDING = ".pdparams"
_LFS = b"version https://git-lfs.github.com/spec/"
_SAVED_MODEL_FILE = "saved_model.pb"
SAVED_VARIABLES = os.path.join("variables", "variables")
# In which folders beside the weights the vocabulary may be, and what it is called there.
_VOCAB_FILES = (
    VOCAB_FILE,
    os.path.join("assets", VOCAB_FILE),  # TF-Hub
    _KERAS_HUB_VOCAB := os.path.join("assets", "tokenizer", "vocabulary.txt"),
)
# Hugging Face's names of tokenizers that are as Google's.
_SAME_TOKENIZERS = re.compile(r"(Bert|DistilBert|Electra)Tokenizer(Fast)?")
_SAME_SPM_TOKENIZERS = re.compile(r"AlbertTokenizer(Fast)?")
SPM_TOKENIZER_CLASS = "AlbertTokenizer"


@dataclasses.dataclass(frozen=True)
class Location:
    """Paths of a checkpoint's parts; None for what is not there.

    Attributes:
      weights: Google's prefix, or a file.
      config_file: bert_config.json or config.json.
      vocab_file: vocab.txt or tokenizer.json, where text is tokenized by that.
      spm_model_file: else spiece.model, or the only file ending in .model.
      labels_file: labels.json.
      task_file: task.json.
      do_lower_case: whether its tokenizer lower-cases.
      case_reason: how that was decided, for people.
      keep_special_tokens: whether its tokenizer lets "[MASK]" and the like in a text through.
    """

    weights: str | None
    config_file: str | None
    vocab_file: str | None
    spm_model_file: str | None
    labels_file: str | None
    task_file: str | None
    do_lower_case: bool | None
    case_reason: str
    keep_special_tokens: bool

    @property
    def lower_cases(self) -> bool:
        """`do_lower_case`; where nothing tells, Google's default, which is to lower-case."""
        return self.do_lower_case is not False

    @property
    def tokenizer_file(self) -> dict[str, str]:
        """What text is tokenized by, as an argument of `create_tokenizer`; empty if unknown."""
        files = {"vocab_file": self.vocab_file, "spm_model_file": self.spm_model_file}
        return {name: file for name, file in files.items() if file is not None}


def format_of(path: str) -> str | None:
    """The format that a path's ending names, "google" for a `.ckpt` or `.ckpt-N`, or None."""
    if path.endswith(_HUGGING_FACE_ENDINGS):
        return HUGGING_FACE
    if path.endswith(_KERAS_ENDING):
        return KERAS
    return GOOGLE if re.search(r"\.ckpt(-\d+)?$", path) else None


def kind_of(path: str) -> str:
    """Which module reads a file, or a prefix that has no telling end."""
    if path.endswith(_KERAS_ENDINGS):
        return KERAS
    return PADDLE if path.endswith(_PADDLE_ENDING) else format_of(path) or GOOGLE


def locate(path: str | os.PathLike[str]) -> Location:
    """Finds the parts of a checkpoint.

    Warns, once a process, where its text was tokenized in a way that `create_tokenizer` does not.

    Args:
      path: a folder, a prefix (`bert_model.ckpt`, `model.ckpt-20`) or a file; local or `gs://`.

    Raises:
      ValueError: nothing is there, or several checkpoints are and none stands out, or a small
        text file is damaged.
      OSError: a remote file system cannot be reached.
    """
    path = os.fspath(path)
    if weights := weights_at(path):
        folder = os.path.dirname(path)
        if weights.endswith(SAVED_VARIABLES) and _first(
            parent := os.path.dirname(folder), (_SAVED_MODEL_FILE,)
        ):
            folder = parent
    elif filesystem.is_dir(path):
        folder = _transformer_folder(path)
        weights = _weights_in(folder)
    else:
        raise ValueError(
            f"no checkpoint at {path}: neither a folder, nor a prefix with {path}.index, nor a "
            f"file ending in "
            f"{', '.join((*_HUGGING_FACE_ENDINGS, *_KERAS_ENDINGS, _PADDLE_ENDING))}"
            f"{_of_hub(path)}"
        )
    for file in filesystem.beside(weights, ".") if weights else ():
        refuse_pointer(file)
    if weights and filesystem.is_file(weights):
        refuse_pointer(weights)
    kind = kind_of(weights) if weights else GOOGLE
    vocab_file, spm_model_file = _vocabulary(folder)
    return Location(
        weights,
        _first(folder, CONFIG_FILES[kind]),
        vocab_file,
        spm_model_file,
        _first(folder, (LABELS_FILE,)),
        _first(folder, (TASK_FILE,)),
        *_tokenizer_settings(folder, vocab_file, spm_model_file),
    )


def _of_hub(path: str) -> str:
    """Return what to do if the path looks like a name on Hugging Face's hub, else nothing."""
    owner = os.path.dirname(path)
    if not re.fullmatch(r"([\w.-]+/)?[\w-][\w.-]*", path) or (owner and os.path.exists(owner)):
        return ""
    folder = f"downloads/{os.path.basename(path)}"
    return (
        ". Nothing is downloaded by name here: if it is a model on Hugging Face's hub, get it with "
        f"`hf download {path} --local-dir {folder}` (pip install huggingface_hub), and give "
        f"{folder}"
    )


def refuse_pointer(path: str) -> None:
    """Raises ValueError if a local file is the pointer that git-lfs leaves in place of a file."""
    if filesystem.is_remote(path) or not os.path.isfile(path):
        return
    with open(path, "rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(
                f"{path} is a pointer of git-lfs, not the file itself; run `git lfs install` and "
                f"`git lfs pull` in {os.path.dirname(path) or '.'}, or download the file"
            )


def _first(folder: str, names: tuple[str, ...]) -> str | None:
    paths = (os.path.join(folder, name) for name in names)
    return next((path for path in paths if filesystem.is_file(path)), None)


def _vocabulary(folder: str) -> tuple[str | None, str | None]:
    """The files of WordPiece and of SentencePiece; where both lie, what tokenizer_class says."""
    vocab_file, spm_model_file = _first(folder, _VOCAB_FILES), _first(folder, (SPM_MODEL_FILE,))
    if vocab_file and spm_model_file:
        kind = str(_tokenizer_config(folder)[1].get("tokenizer_class"))
        return (
            (None, spm_model_file) if _SAME_SPM_TOKENIZERS.fullmatch(kind) else (vocab_file, None)
        )
    if vocab_file or spm_model_file or not filesystem.is_dir(folder or "."):
        return vocab_file, spm_model_file
    # ALBERT's releases have a 30k-clean.model, others a sentencepiece.bpe.model.
    names = [name for name in filesystem.list_dir(folder or ".") if name.endswith(".model")]
    if len(names) == 1:
        return None, os.path.join(folder, names[0])
    file = _first(folder, (TOKENIZER_JSON,))
    return (file, None) if file and "model" in filesystem.read_json(file, dict) else (None, None)


def _tokenizer_config(folder: str) -> tuple[str | None, dict[str, Any]]:
    file = _first(folder, (TOKENIZER_FILE,))
    return file, filesystem.read_json(file, dict) if file else {}


def weights_at(path: str) -> str | None:
    """`path` as a prefix (without the ending of one of its files) or file; None if it is neither.

    Ask this before whether it is a folder: where folders are but the beginnings of names, a
    prefix looks like one.
    """
    prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path)
    if filesystem.is_file(f"{prefix}.index"):
        return prefix
    return path if kind_of(path) != GOOGLE and filesystem.is_file(path) else None


def check_size(config: BertConfig, place: Location, config_file: str) -> None:
    """Raise ValueError if the weights cannot be those of so large a config.

    A config is believed before the weights are read, and a model is made of it.
    """
    if place.weights is None or config.num_matrix_parameters < _SMALL:
        return
    stored = _stored_bytes(place.weights)
    if config.num_matrix_parameters > _PARAMETERS_PER_BYTE * stored:
        raise ValueError(
            f"{config_file} describes a model of at least {config.num_matrix_parameters:,} "
            f"numbers, but {place.weights} has {stored:,} bytes; use the config that belongs to it"
        )


def _stored_bytes(weights: str) -> int:
    """The size of all files of a checkpoint, an upper limit where shards are among others."""
    folder, base = os.path.split(weights)
    if kind_of(weights) == GOOGLE:
        names = [n for n in filesystem.list_dir(folder or ".") if n.startswith(f"{base}.data-")]
    elif weights.endswith(".index.json"):
        names = [n for n in filesystem.list_dir(folder or ".") if n.endswith(_SHARD_ENDINGS)]
    else:
        names = [base]
    paths = (os.path.join(folder, name) for name in names)
    return sum(filesystem.size(path) for path in paths if filesystem.is_file(path))


def _transformer_folder(folder: str) -> str:
    """sentence-transformers may keep the encoder in a subfolder, named in modules.json."""
    modules_file = os.path.join(folder, "modules.json")
    if not filesystem.is_file(modules_file):
        return folder
    for module in filesystem.read_json(modules_file, list):
        if not isinstance(module, dict):
            raise ValueError(f"{modules_file} lists {module!r:.40}, which is no module")
        if str(module.get("type")).endswith(".Transformer"):
            name = module.get("path", "")
            if name and not is_plain_name(name):
                raise ValueError(f"{modules_file} names the folder {name!r:.80} outside of its own")
            return os.path.join(folder, name) if name else folder
    return folder


def is_plain_name(name: Any) -> bool:
    """Whether a name that a file mentions cannot lead out of that file's folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\"}


def _weights_in(folder: str) -> str | None:
    for name in [*_best_name(folder), *state_names(folder)]:
        if filesystem.is_file(os.path.join(folder, f"{name}.index")):
            return os.path.join(folder, name)
    if _first(folder, (_SAVED_MODEL_FILE,)):
        return os.path.join(folder, SAVED_VARIABLES)
    # What is hidden is another program's, or an interrupted save's.
    files = [name for name in filesystem.list_dir(folder) if not name.startswith(".")]
    names = [name.removesuffix(".index") for name in files if name.endswith(".index")]
    names = names or [name for name in _HUGGING_FACE_NAMES if name in files][:1]
    for endings in ((".safetensors", _KERAS_ENDING), (*_KERAS_ENDINGS, _PADDLE_ENDING)):
        names = names or [name for name in files if name.endswith(endings)]
    for usual in (DEFAULT_NAMES[GOOGLE], DEFAULT_NAMES[KERAS]):
        names = [usual] if usual in names else names
    if len(names) > 1:
        raise ValueError(f"{folder} holds several checkpoints ({', '.join(names)}); name one")
    return os.path.join(folder, names[0]) if names else None


def _best_name(folder: str) -> list[str]:
    """The checkpoint that was best on the development set, where a run has noted one."""
    path = os.path.join(folder, BEST_FILE)
    name = filesystem.read_json(path, dict).get("checkpoint") if filesystem.is_file(path) else None
    return [name] if isinstance(name, str) and is_plain_name(name) else []


def state_names(folder: str) -> list[str]:
    """Base names of the checkpoints in a folder's state file, the latest first; without it none."""
    state = os.path.join(folder, STATE_FILE)
    if not filesystem.is_file(state):
        return []
    text = filesystem.read_bytes(state, filesystem.MAX_JSON_BYTES).decode(errors="replace")
    latest = re.findall(r'^model_checkpoint_path: "(.*)"', text, re.MULTILINE)
    others = re.findall(r'^all_model_checkpoint_paths: "(.*)"', text, re.MULTILINE)
    return list(dict.fromkeys(os.path.basename(path) for path in [*latest, *reversed(others)]))


def _tokenizer_settings(
    folder: str, vocab_file: str | None, spm_model_file: str | None
) -> tuple[bool | None, str, bool]:
    """Whether the tokenizer lower-cases, by the first source that knows, and why.

    And whether it keeps special tokens.
    """
    tokenizer_file, values = _tokenizer_config(folder)
    for key in ("do_lower_case", "keep_special_tokens"):
        if not isinstance(values.get(key, True), bool | None):
            raise ValueError(f"{tokenizer_file}: {key}={values[key]!r:.80} must be true or false")
    lower, reason = (
        (bool(values["do_lower_case"]), f"do_lower_case in {tokenizer_file}")
        if values.get("do_lower_case") is not None
        else _stored_case(folder, vocab_file) or _likely_case(folder, vocab_file, spm_model_file)
    )
    if vocab_file and os.path.basename(vocab_file) == TOKENIZER_JSON:
        theirs = tokenizer_json.normalizer(vocab_file)
        values.setdefault("strip_accents", theirs.get("strip_accents"))
        values.setdefault("tokenize_chinese_chars", theirs.get("handle_chinese_chars"))
    differences = _spm_differences if spm_model_file else _differences
    for difference in differences(values, lower):
        _warn_once(
            f"{tokenizer_file or vocab_file}: {difference}; the model may know other pieces of the "
            "text"
        )
    return lower, reason, bool(values.get("keep_special_tokens", False))


def _differences(values: dict[str, Any], do_lower_case: bool | None) -> Iterator[str]:
    """What a tokenizer_config.json asks for and FullTokenizer, which is Google's, does not do."""
    strip_accents = values.get("strip_accents")
    if strip_accents not in (None, do_lower_case):
        yield (
            f"strip_accents={strip_accents!r:.80}, but accents are stripped here exactly where "
            "text is lower-cased"
        )
    if values.get("tokenize_chinese_chars") is False:
        yield "tokenize_chinese_chars=False, but here every Chinese character stands alone"
    kind = values.get("tokenizer_class") or "BertTokenizer"
    if not _SAME_TOKENIZERS.fullmatch(str(kind)):
        yield f"tokenizer_class={kind!r:.80}, but text is tokenized here as BertTokenizer does"


def _spm_differences(values: dict[str, Any], do_lower_case: bool | None) -> Iterator[str]:
    """The same for SentencePieceTokenizer, which is as ALBERT's."""
    keep_accents = values.get("keep_accents")
    if keep_accents not in (None, not do_lower_case):
        yield (
            f"keep_accents={keep_accents!r:.80}, but accents are kept here exactly where text is "
            "not lower-cased"
        )
    kind = values.get("tokenizer_class") or SPM_TOKENIZER_CLASS
    if not _SAME_SPM_TOKENIZERS.fullmatch(str(kind)):
        yield (
            f"tokenizer_class={kind!r:.80}, but text is tokenized here as {SPM_TOKENIZER_CLASS} "
            "does"
        )


@functools.cache
def _warn_once(message: str) -> None:
    logging.warning("%s", message)


def _stored_case(folder: str, vocab_file: str | None) -> tuple[bool, str] | None:
    """What a KerasHub preset, or a SavedModel, says of its tokenizer; None for any other."""
    if vocab_file == os.path.join(folder, _KERAS_HUB_VOCAB):
        file = os.path.join(folder, "tokenizer.json")
        values = (
            filesystem.read_json(file, dict).get("config") if filesystem.is_file(file) else None
        )
        lower = values.get("lowercase") if isinstance(values, dict) else None
        return (lower, f"lowercase in {file}") if isinstance(lower, bool) else None
    if vocab_file and os.path.basename(vocab_file) == TOKENIZER_JSON:
        lower = tokenizer_json.normalizer(vocab_file).get("lowercase")
        return (lower, f"lowercase in {vocab_file}") if isinstance(lower, bool) else None
    if vocab_file and _first(folder, (_SAVED_MODEL_FILE,)):
        from bert_tf.checkpoints.model_garden import stored_case

        lower = stored_case(os.path.join(folder, SAVED_VARIABLES))
        return None if lower is None else (lower, f"do_lower_case in {folder}")
    return None


def _likely_case(
    folder: str, vocab_file: str | None, spm_model_file: str | None
) -> tuple[bool | None, str]:
    """The same, where no file says so."""
    name = os.path.basename(os.path.abspath(folder)).lower()
    if "uncased" in name or name.startswith(("chinese_", "multilingual_")):
        return True, f"the folder's name, {name}"
    if "cased" in name:
        return False, f"the folder's name, {name}"
    if vocab_file is not None:
        pieces = set(load_vocab(vocab_file))
    elif spm_model_file is not None:
        from bert_tf.sentencepiece_tokenization import single_pieces

        pieces = single_pieces(spm_model_file)
    else:
        return None, "there is no vocabulary"
    # Every alphabet a vocabulary was trained on is in it letter by letter.
    capitals = pieces & set(string.ascii_uppercase)
    found = f"{len(capitals) or 'no'} single capital letters in {vocab_file or spm_model_file}"
    return not capitals, found
