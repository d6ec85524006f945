"""Examples -> `<name>.tf_record`, as google-research/bert's run_classifier.py writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from bert_tf.data import records
from bert_tf.data.examples import InputExample, example_features
from bert_tf.tokenization import Tokenizer

_LOGGED = 5  # examples shown in the log, as Google's program does


def write(
    output_dir: str,
    name: str,
    examples: Sequence[InputExample],
    tokenizer: Tokenizer,
    labels: Sequence[str],
    max_seq_length: int,
) -> records.RecordFile:
    """Writes the features of the examples (anew on every run, as Google's) and opens the file.

    Args:
      labels: in the order of their ids; none for a regression.

    Returns:
      The file; how many examples were truncated has been printed.
    """
    label_ids = {label: i for i, label in enumerate(labels)} if labels else None
    truncated = 0

    def rows() -> Iterator[Mapping[str, Any]]:
        nonlocal truncated
        for number, example in enumerate(examples):
            row, cut = example_features(example, tokenizer, label_ids, max_seq_length)
            truncated += cut
            if number < _LOGGED:
                _log(example, row, tokenizer)
            yield row

    path = tf.io.gfile.join(output_dir, f"{name}.tf_record")
    spec = records.classification_spec(max_seq_length, regression=not labels)
    records.write(path, rows(), spec)
    print(
        f"{name}: {len(examples)} examples, {truncated} ({100 * truncated / len(examples):.1f}%) "
        f"truncated to {max_seq_length} pieces",
        flush=True,
    )
    return records.RecordFile(path, spec)


def _log(example: InputExample, row: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"][: sum(row["input_mask"])])
    logging.info("*** Example ***")
    logging.info("guid: %s", example.guid)
    logging.info("tokens: %s", " ".join(tokens))
    for name in ("input_ids", "input_mask", "segment_ids"):
        logging.info("%s: %s", name, " ".join(map(str, row[name])))
    logging.info("label: %s (id = %s)", example.label, row["label_ids"][0])
