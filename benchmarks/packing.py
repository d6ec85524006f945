"""What --packing saves in pre-training where documents are short.

    python benchmarks/packing.py

Each premise of the bundled MultiNLI file is a document of its own, as reviews or messages would
be; create_pretraining_data.py makes rows of 128 of them. Training steps of a 4-layer, 256-wide
BERT on batches of 32, with each document in a row of its own (padded to the longest of the batch)
and with several in a row, in turn on the same documents; the losses are compared.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import tempfile
import time
from pathlib import Path

import common
import keras
import numpy as np
import tensorflow as tf
from tokenization import BUNDLED_VOCAB, VOCABS

from bert_tf import distribution, heads, training
from bert_tf.config import BertConfig
from bert_tf.data import row_packing
from bert_tf.data.records import RecordFiles, pretraining_spec
from bert_tf.tasks import objectives, pretraining_data
from bert_tf.tasks.pretraining_config import PretrainingConfig
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from bert_tf.tasks.pretraining_rows import Arranged

MNLI = Path(__file__).resolve().parents[1] / "examples" / "mnli" / "train.tsv"
LENGTH, MASKS, BATCH = 128, 20, 32


def make_rows(folder: str) -> RecordFiles:
    """One row for each premise."""
    with MNLI.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        premises = [row["sentence1"] for row in table]
    Path(folder, "corpus.txt").write_text("\n\n".join(premises), "utf-8")
    vocab = Path(folder, "vocab.txt")
    vocab.write_bytes(gzip.decompress((VOCABS / BUNDLED_VOCAB["en"]).read_bytes()))
    pretraining_data.run(
        PretrainingDataConfig(
            input_file=f"{folder}/corpus.txt",
            output_file=f"{folder}/rows.tfrecord",
            vocab_file=str(vocab),
            sentence_pairs="none",
            short_seq_prob=0.0,
            dupe_factor=1,
        )
    )
    return RecordFiles([f"{folder}/rows.tfrecord"], pretraining_spec(LENGTH, MASKS))


def steps(records: RecordFiles, folder: str, packing: bool):
    """The steps of a run without dropout, their logs one a `next`."""
    keras.utils.set_random_seed(1)
    bert = BertConfig(
        30522,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = PretrainingConfig(
        input_file="rows",
        output_dir=folder,
        do_train=True,
        train_batch_size=BATCH,
        max_seq_length=LENGTH,
        packing=packing,
    )
    model = heads.pretraining(bert, next_sentence=False, packed=packing)
    strategy = distribution.create_strategy(config)
    objective = objectives.pretraining(next_sentence=False)
    loop = training.Loop(config, model, objective, strategy)
    optimizer = loop.optimizer(1000, 100)
    optimizer.build(model.trainable_variables)
    rows = Arranged(records, row_packing.pack) if packing else records
    for _, logs in itertools.chain.from_iterable(loop.steps(rows, optimizer, range(1000))):
        yield logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    print(common.machine(), common.versions("tensorflow", "keras"), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        records = make_rows(folder)
        runs = {name: steps(records, folder, name == "packed") for name in ("plain", "packed")}
        seconds = dict.fromkeys(runs, 0.0)
        tokens = 0
        losses = {name: [] for name in runs}
        for number in range(rounds + 2):
            for name, run in runs.items():
                start = time.perf_counter()
                logs = next(run)
                losses[name].append(logs["loss"])
                if number > 1:  # the first ones trace
                    seconds[name] += time.perf_counter() - start
            tokens += logs["tokens"] if number > 1 else 0
    difference = np.abs(np.subtract(losses["plain"], losses["packed"])).max()
    for name, value in seconds.items():
        print(f"{name:7} {tokens / value:7.0f} pieces a second, padding not counted")
    print(f"packed is {seconds['plain'] / seconds['packed']:.2f} times as fast")
    print(f"largest difference of a loss: {difference:.1e}")


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
