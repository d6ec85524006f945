"""SavedModels of a fine-tuned classifier, in TF Serving's layout.

    export_dir/<version>/            raw strings in: signatures serving_default (text_a, text_b),
                                     single_sentence (text_a), features; assets/ holds the
                                     vocabulary. Needs TF.Text's ops, which TF Serving has.
    export_dir/features/<version>/   input_ids, input_mask, segment_ids in; stock TensorFlow only.

Every signature answers with `label_ids` int32 [B], `labels` string [B] and `probabilities`
float32 [B, L]; a regression with `scores` float32 [B]. Both compute in float32, without dropout,
whatever precision the model was trained in.
"""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from bert_tf import filesystem
from bert_tf.checkpoints.files import remove_tree
from bert_tf.config import BertConfig
from bert_tf.export import signatures, verify
from bert_tf.export.verify import ExportError, Sample
from bert_tf.tokenization import Tokenizer, validate_vocab_size

__all__ = ["ExportError", "export_classifier"]

FEATURES_DIR = "features"


def export_classifier(
    model: keras.Model,
    *,
    config: BertConfig,
    tokenizer: Tokenizer,
    max_seq_length: int,
    label_list: list[str],
    export_dir: str,
    samples: Iterable[Sample],
    regression: bool = False,
) -> str:
    """Writes both SavedModels under the next free version; returns the text one's folder.

    `model` is one of `heads.classifier`, trained under any tf.distribute strategy; call this
    outside of the strategy's scope. Texts are cut to `max_seq_length` pieces as in training.
    `samples`, pairs (text_a, text_b or None) of the user's own data, join a few tricky texts of
    ours: all of them go through what was written, read back from disk, and must give the ids and,
    to 1e-5, the answers that Python gives. Only then do the folders get their names, the text one
    last. Renaming is atomic on local file systems, so a killed export leaves at most an
    `unfinished-*` folder, which may be deleted; elsewhere saved_model.pb comes last.

    Raises ValueError for arguments that do not fit together, ExportError naming the first
    difference, OSError if export_dir cannot be written; nothing stays behind then.
    """
    validate_vocab_size(tokenizer.vocab_file, tokenizer.num_tokens, config.vocab_size)
    model = signatures.float32_copy(model, config, 1 if regression else len(label_list))
    features = signatures.features_module(model, label_list, regression)
    text = signatures.text_module(features, tokenizer, max_seq_length)
    samples = [*samples, *verify.tricky_samples(max_seq_length)]
    batches = list(verify.expected(model, tokenizer, max_seq_length, samples))

    with _unfinished(export_dir) as (text_dir, features_dir):
        _save(features, features_dir, serving_default=features.features, features=features.features)
        verify.check_features(features_dir, batches, label_list)
        _save(
            text,
            text_dir,
            serving_default=text.text_pair,
            single_sentence=text.single_sentence,
            features=features.features,
        )
        verify.check_text(text_dir, batches, label_list)
        return _publish(text_dir, features_dir, export_dir)


@contextlib.contextmanager
def _unfinished(export_dir: str) -> Iterator[tuple[str, str]]:
    """Where to write the text and the features folder; what still is there at the end goes."""
    folder = os.path.join(export_dir, f"unfinished-{uuid.uuid4().hex[:8]}")
    filesystem.make_dir(folder)
    try:
        yield os.path.join(folder, "text"), os.path.join(folder, "features")
    except ExportError as error:
        raise ExportError(f"nothing was exported to {export_dir}: {error}") from error
    finally:
        tf.io.gfile.rmtree(folder)


def _save(module: tf.Module, folder: str, **named_signatures) -> None:
    with filesystem.os_errors(folder):
        tf.saved_model.save(module, folder, signatures=named_signatures)


def _publish(text_dir: str, features_dir: str, export_dir: str) -> str:
    """Both folders get the next free version; the text one, which announces it, comes last."""
    features_home = os.path.join(export_dir, FEATURES_DIR)
    filesystem.make_dir(features_home)
    taken = filesystem.list_dir(export_dir) + filesystem.list_dir(features_home)
    versions = [int(name) for name in taken if name.isdecimal()]
    version = str(max(versions, default=0) + 1)
    published_features = os.path.join(features_home, version)
    published_text = os.path.join(export_dir, version)
    _move(features_dir, published_features)
    try:
        _move(text_dir, published_text)
    except BaseException:
        tf.io.gfile.rmtree(published_features)
        raise
    return published_text


def _move(source: str, target: str) -> None:
    """Renames a folder. Object stores have none to rename: there, file by file."""
    with filesystem.os_errors(target):
        if not filesystem.is_remote(source):
            tf.io.gfile.rename(source, target)
            return
        paths = [os.path.join(top, x) for top, _, files in tf.io.gfile.walk(source) for x in files]
        try:
            for path in sorted(paths, key=lambda path: path.endswith("/saved_model.pb")):
                moved = target + path.removeprefix(source)
                tf.io.gfile.makedirs(os.path.dirname(moved))
                tf.io.gfile.rename(path, moved)
        except BaseException:
            remove_tree(target)
            raise
