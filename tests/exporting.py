"""A tiny classifier to export, and what Python says that it answers."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.export.classification import Classifier
from bert_tf.packing import pack
from bert_tf.tokenization import FullTokenizer

LABELS = ["contradiction", "entailment", "中立"]
WORDS = "the quick brown fox jump ##s ##ed over lazy dog . , ! ? ' word another short cafe naive"
MAX_SEQ_LENGTH = 24
SAMPLES = [("The quick brown fox", "jumped over"), ("Café naïve!", None), ("北京", "")]


def write_vocab(folder: Path) -> Path:
    characters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *characters]
    tokens += [f"##{c}" for c in characters if c != "s"] + ["北", "京", "中", "国", "[", "]", "sep"]
    path = folder / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


def tiny_classifier(vocab_size: int, num_labels: int) -> tuple[BertConfig, keras.Model]:
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        type_vocab_size=2,
        initializer_range=0.5,
    )
    keras.utils.set_random_seed(3)
    model = heads.classifier(config, num_labels)
    scores = next(weight for weight in model.weights if weight.name == "output_weights")
    scores.assign(scores * 50)  # so that answers differ from text to text
    return config, model


def arguments(folder: Path, task_type: str = "classification") -> dict:
    """Of `Classifier`."""
    tokenizer = FullTokenizer(write_vocab(folder))
    labels = [] if task_type == "regression" else LABELS
    config, model = tiny_classifier(tokenizer.num_tokens, len(labels) or 1)
    return {
        "model": model,
        "config": config,
        "tokenizer": tokenizer,
        "max_seq_length": MAX_SEQ_LENGTH,
        "labels": labels,
        "task_type": task_type,
    }


def python_logits(servable: Classifier, text_a: str, text_b: str | None) -> np.ndarray:
    """[L], by the tokenizer, packing and the model that was trained."""
    tokenizer = servable.tokenizer
    ids, segments = pack(
        tokenizer.encode(text_a),
        None if text_b is None else tokenizer.encode(text_b),
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        max_seq_length=servable.max_seq_length,
    )
    rows = {"input_ids": [ids], "input_mask": [[1] * len(ids)], "segment_ids": [segments]}
    return servable.model({k: tf.constant(v) for k, v in rows.items()})["logits"][0].numpy()


def python_probabilities(servable: Classifier, text_a: str, text_b: str | None) -> np.ndarray:
    return tf.nn.softmax(python_logits(servable, text_a, text_b)).numpy()


def serialized(**features) -> bytes:
    """A tf.Example of lists of ints or strings."""
    example = tf.train.Example()
    for name, values in features.items():
        if isinstance(values[0], str):
            values = [value.encode() for value in values]
            example.features.feature[name].bytes_list.value.extend(values)
        else:
            example.features.feature[name].int64_list.value.extend(values)
    return example.SerializeToString()


def check_no_rows(folder: str) -> None:
    """Every signature of a SavedModel answers a batch of no rows with no rows."""
    for name, signature in tf.saved_model.load(folder).signatures.items():
        specs = signature.structured_input_signature[1]
        inputs = {key: tf.zeros([0] * spec.shape.rank, spec.dtype) for key, spec in specs.items()}
        for key, answer in signature(**inputs).items():
            assert answer.shape[0] == 0, (name, key)


def write_run(folder: Path) -> None:
    """run.json and metrics.json, as training leaves them."""
    run = {
        "flags": {"task_name": "mnli", "learning_rate": 5e-5, "init_checkpoint": None},
        "model": {},
        "data_sha256": {"the training data": "ab" * 32, "the vocabulary": "cd" * 32},
        "versions": {"bert_tf": "0.1.0", "tensorflow": "2.21.0"},
    }
    metrics = {"task_name": "mnli", "eval": {"examples": 40, "accuracy": 0.975}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))


def exporting_only(run, result: dict, folder: Path, precision: str):
    """The config of a run that exports what another one trained."""
    return dataclasses.replace(
        run,
        do_train=False,
        do_eval=False,
        do_predict=False,
        init_checkpoint=result["final_model"],
        output_dir=str(folder / "out"),
        export_dir=str(folder / "export"),
        export_precision=precision,
    )
