"""Does a SavedModel on disk answer as Python does? Asked before an export counts."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bert_tf.export.signatures import FEATURES
from bert_tf.packing import pack
from bert_tf.tokenization import Tokenizer

TOLERANCE = 1e-5  # absolute; for regression scores, which may be large, also relative
BATCH_SIZE = 8

Sample = tuple[str, str | None]  # text_a, text_b
Arrays = dict[str, np.ndarray]


class ExportError(RuntimeError):
    """The SavedModel that was written does not answer as Python does."""


class Batch(NamedTuple):
    """Samples and what Python makes of them."""

    samples: list[Sample]
    features: Arrays  # FEATURES, int32 [B, F]
    logits: np.ndarray  # float32 [B, L]


def tricky_samples(max_seq_length: int) -> list[Sample]:
    """Texts on which tokenizers and packers have been seen to differ."""
    long_a, long_b = "word " * (max_seq_length + 9), "another " * (max_seq_length + 7)
    return [
        ("", None),
        (" \t\n", "\u3000"),
        ("Thé naïve café, ÀÉÎÕÜ; I\u0307stanbul", "ﬁne Ａ１ e\u0301 \u00ad-\u200b- ΟΔΟΣ"),
        ("北京是中国的首都。", "日本語とかな, 한국어 อักษรไทย"),
        ("I ❤️ it 🙂 👩‍👩‍👧", None),
        ("literal [CLS] [SEP] [MASK] [UNK]", "[SEP]"),
        ("a" * 201, "don't\x00stop\ufffd"),
        (long_a, None),
        (long_a, long_b),
        ("short", long_b),
    ]


def expected(
    model: keras.Model, tokenizer: Tokenizer, max_seq_length: int, samples: Iterable[Sample]
) -> Iterator[Batch]:
    """Batches of samples of like length through the tokenizer, packing.pack and the Keras model."""
    rows = [(_packed(tokenizer, max_seq_length, *sample), sample) for sample in samples]
    rows.sort(key=lambda row: len(row[0][0]))
    for start in range(0, len(rows), BATCH_SIZE):
        packed, chunk = zip(*rows[start : start + BATCH_SIZE], strict=True)
        features = _padded(packed)
        logits = model(_tensors(features), training=False)["logits"]
        yield Batch(list(chunk), features, logits.numpy())


def _packed(tokenizer, max_seq_length, text_a, text_b) -> tuple[list[int], list[int]]:
    return pack(
        tokenizer.encode(text_a),
        None if text_b is None else tokenizer.encode(text_b),
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        max_seq_length=max_seq_length,
    )


def _padded(packed: Sequence[tuple[list[int], list[int]]]) -> Arrays:
    shape = len(packed), max(len(ids) for ids, _ in packed)
    features = {name: np.zeros(shape, np.int32) for name in FEATURES}
    for i, (ids, segments) in enumerate(packed):
        features["input_ids"][i, : len(ids)] = ids
        features["input_mask"][i, : len(ids)] = 1
        features["segment_ids"][i, : len(ids)] = segments
    return features


def check_features(folder: str, batches: Iterable[Batch], label_list: list[str]) -> None:
    """Raise ExportError unless the features SavedModel in `folder` answers as Python did."""
    loaded = tf.saved_model.load(folder)
    for batch in batches:
        _check_answers(loaded, label_list, "serving_default", batch.features, batch)


def check_text(folder: str, batches: Iterable[Batch], label_list: list[str]) -> None:
    """Raise ExportError unless the text SavedModel in `folder` makes Python's ids and answers."""
    loaded = tf.saved_model.load(folder)
    check = functools.partial(_check_answers, loaded, label_list)
    for batch in batches:
        texts = _texts(batch.samples)
        _check_ids(loaded.tokenize(**_tensors(texts)), batch)
        check("serving_default", texts, batch)
        check("features", batch.features, batch)
        single = [i for i, (_, text_b) in enumerate(batch.samples) if text_b is None]
        if single:
            chosen = Batch([batch.samples[i] for i in single], {}, batch.logits[single])
            check("single_sentence", {"text_a": texts["text_a"][single]}, chosen)


def _texts(samples: list[Sample]) -> Arrays:
    return {
        "text_a": np.array([text_a.encode() for text_a, _ in samples], object),
        "text_b": np.array([(text_b or "").encode() for _, text_b in samples], object),
    }


def _tensors(arrays: Arrays) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in arrays.items()}


def _check_ids(made: dict[str, tf.Tensor], batch: Batch) -> None:
    """The same features row by row, padded with zeros to the same length."""
    saved = {name: value.numpy() for name, value in made.items()}
    for i, sample in enumerate(batch.samples):
        for name in FEATURES:
            ours, theirs = (
                np.trim_zeros(x[name][i], "b").tolist() for x in (batch.features, saved)
            )
            if ours != theirs:
                raise ExportError(f"{name} of {_shown(sample)}: Python {ours}, SavedModel {theirs}")
    shapes = {name: value.shape for name, value in saved.items()}
    if shapes != {name: value.shape for name, value in batch.features.items()}:
        raise ExportError(
            f"shapes: Python {batch.features['input_ids'].shape}, SavedModel {shapes}"
        )


def _check_answers(loaded, label_list: list[str], name: str, inputs: Arrays, batch: Batch) -> None:
    """Scores or probabilities within TOLERANCE, and labels that follow from them."""
    answers = loaded.signatures[name](**_tensors(inputs))
    answers = {key: value.numpy() for key, value in answers.items()}
    if "scores" in answers:
        key, ours, rtol = "scores", batch.logits[:, 0], TOLERANCE
    else:
        key, ours, rtol = "probabilities", _softmax(batch.logits), 0.0
    for i, sample in enumerate(batch.samples):
        if not np.allclose(answers[key][i], ours[i], rtol=rtol, atol=TOLERANCE):
            raise ExportError(
                f"{key} of {_shown(sample)} from signature {name}: "
                f"Python {ours[i].tolist()}, SavedModel {answers[key][i].tolist()}"
            )
    if key == "probabilities":
        ids, labels = answers["label_ids"], answers["labels"].tolist()
        best = ours[np.arange(len(ids)), ids] >= ours.max(axis=-1) - 2 * TOLERANCE
        if not best.all() or labels != [label_list[i].encode() for i in ids]:
            raise ExportError(f"labels of signature {name}: {labels} for {ours.tolist()}")


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _shown(sample: Sample) -> str:
    return " + ".join(repr(t if len(t) <= 60 else t[:57] + "...") for t in sample if t is not None)
