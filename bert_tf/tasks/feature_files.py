"""Examples -> `<name>.tf_record`, as google-research/bert's run_classifier.py writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from bert_tf.data import records
from bert_tf.data.examples import InputExample
from bert_tf.data.features import Packing, example_features
from bert_tf.data.statistics import SplitStatistics
from bert_tf.tokenization import Tokenizer

_LOGGED = 5  # examples shown in the log, as Google's program does


class FeatureFile(NamedTuple):
    """The examples of a split, their rows, and what was counted on the way."""

    examples: Sequence[InputExample]
    rows: records.RecordFile
    statistics: SplitStatistics


def write(
    output_dir: str,
    name: str,
    examples: Sequence[InputExample],
    tokenizer: Tokenizer,
    labels: Sequence[str],
    packing: Packing,
    statistics: SplitStatistics,
) -> FeatureFile:
    """Writes the features of the examples (anew on every run, as Google's) and opens the file.

    Args:
      labels: in the order of their ids; none for a regression.
      statistics: empty; comes back filled.
    """
    label_ids = {label: i for i, label in enumerate(labels)} if labels else None
    multilabel = statistics.problem_type == "multilabel"

    def rows() -> Iterator[Mapping[str, Any]]:
        for number, example in enumerate(examples):
            packed = example_features(example, tokenizer, label_ids, packing, multilabel)
            statistics.add(example, packed)
            if number < _LOGGED:
                _log(example, packed.rows[0], tokenizer)
            yield from packed.rows

    path = tf.io.gfile.join(output_dir, f"{name}.tf_record")
    spec = records.classification_spec(
        packing.max_seq_length,
        regression=not labels,
        num_labels=len(labels) if multilabel else None,
    )
    records.write(path, rows(), spec)
    return FeatureFile(examples, records.RecordFile(path, spec), statistics)


def _log(example: InputExample, row: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"][: sum(row["input_mask"])])
    logging.info("*** Example ***")
    logging.info("guid: %s", example.guid)
    logging.info("tokens: %s", " ".join(tokens))
    for name in ("input_ids", "input_mask", "segment_ids"):
        logging.info("%s: %s", name, " ".join(map(str, row[name])))
    logging.info("label: %s (id = %s)", example.label, row["label_ids"][0])
