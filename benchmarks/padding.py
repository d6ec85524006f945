"""What it saves to pad a batch to its own longest row instead of to --max_seq_length.

    python benchmarks/padding.py

Training steps of a 6-layer, 384-wide BERT on batches of 32 rows with the lengths of MRPC's
sentence pairs, at --max_seq_length=128: both paddings in turn on the same rows, best of the
rounds. Nothing but the padding differs, and the losses are compared.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time

import common
import keras
import numpy as np
import tensorflow as tf

from bert_tf import distribution, heads, optimization, training
from bert_tf.config import BertConfig
from bert_tf.data.records import RecordFile, classification_spec, write
from bert_tf.run_config import RunConfig
from bert_tf.tasks import objectives

# Pieces in 600 pairs of MRPC's files, [CLS] and [SEP] included: the deciles from 0 to 100%.
MRPC_DECILES = [22, 36, 42, 46, 50, 54, 58, 61, 65, 70, 85]
LENGTH, BATCH, VOCABULARY = 128, 32, 30522


def rows(count: int):
    """Random ids with MRPC's lengths."""
    random = np.random.default_rng(0)
    for _ in range(count):
        used = int(np.interp(random.uniform(0, 10), range(11), MRPC_DECILES))
        padding = [0] * (LENGTH - used)
        yield {
            "input_ids": random.integers(1000, VOCABULARY, used).tolist() + padding,
            "input_mask": [1] * used + padding,
            "segment_ids": [0] * LENGTH,
            "label_ids": [int(random.integers(2))],
            "is_real_example": [1],
        }


def steps(records: RecordFile, folder: str, full: bool):
    """The steps of a run without dropout, one loss a `next`."""
    keras.utils.set_random_seed(1)
    config = RunConfig(
        output_dir=folder, train_batch_size=BATCH, max_seq_length=LENGTH, pad_to_max_seq_length=full
    )
    bert = BertConfig(
        VOCABULARY,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = heads.classifier(bert, 2, dropout_rate=0.0)
    loop = training.Loop(
        config, model, objectives.sequence("classification"), distribution.create_strategy(config)
    )
    optimizer = optimization.create_optimizer(5e-5, 1000, 100)
    optimizer.build(model.trainable_variables)
    for _, logs in itertools.chain.from_iterable(loop.steps(records, optimizer, range(1000))):
        yield logs["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    print(common.machine(), common.versions("tensorflow", "keras"), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        spec = classification_spec(LENGTH, regression=False)
        write(f"{folder}/rows.tf_record", rows(BATCH * 16), spec)
        records = RecordFile(f"{folder}/rows.tf_record", spec)
        runs = {name: steps(records, folder, name == "full") for name in ("own", "full")}
        times = {name: [] for name in runs}
        losses = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                losses[name].append(next(run))
                if number:  # the first one traces
                    times[name].append(time.perf_counter() - start)
    difference = np.abs(np.subtract(losses["own"], losses["full"])).max()
    own, full = (np.median(times[name]) for name in ("own", "full"))
    ratios = np.divide(times["full"], times["own"])
    print(f"own longest row: {1e3 * own:.0f} ms a step (median), full padding: {1e3 * full:.0f} ms")
    print(f"full / own: {np.median(ratios):.2f} (median of {rounds} alternating steps)")
    print(f"largest difference of a loss: {difference:.1e}")


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
