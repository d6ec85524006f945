"""Vectors of a text file: extract_features.py beside the steps of google-research/bert's program.

    python benchmarks/extract_features.py

Both read the same file with the same model and tokenizer and write the same JSONL, which is
compared byte by byte. "Google's steps" are those of its program on today's TensorFlow: batches of
32 lines in the order of the file, each padded to 128, through one graph; then every value is
rounded and every line written by `json.dumps`. What its program spends beside that (an Estimator,
the features as constants in the graph) is left out, and neither's start counts. Rounds alternate;
the best of each counts.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import filecmp
import io
import json
import os
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import tensorflow as tf

from bert_tf import checkpoints
from bert_tf.data import sentence_lines
from bert_tf.packing import pack
from bert_tf.tasks import feature_extraction
from bert_tf.tasks.feature_extraction_config import FeatureExtractionConfig

ROOT = Path(__file__).parent.parent
LENGTH, BATCH = 128, 32


class GooglesSteps:
    """The model as one graph, and the program's loop over lines, tokens, layers and values."""

    def __init__(self, config: FeatureExtractionConfig):
        self.config = config
        _, self.tokenizer, bert = checkpoints.from_pretrained(config.init_checkpoint)
        ids = tf.TensorSpec([None, LENGTH], tf.int32)
        names = ("input_ids", "input_mask", "segment_ids")

        @tf.function(input_signature=[dict.fromkeys(names, ids)], autograph=False)
        def forward(batch):
            layers = bert(batch)["encoder_outputs"]
            return [layers[index] for index in config.layer_indexes()]

        self.forward = forward

    def rows(self):
        special = {"cls_id": self.tokenizer.cls_token_id, "sep_id": self.tokenizer.sep_token_id}
        for line in sentence_lines.read(self.config.input_file):
            texts = [self.tokenizer.encode(text or "") for text in (line.text_a, line.text_b)]
            ids, segments = pack(*texts, max_seq_length=LENGTH, **special)
            yield ids, self.tokenizer.convert_ids_to_tokens(ids), segments

    def run(self) -> None:
        rows, number = list(self.rows()), 0
        with open(self.config.output_file, "w", encoding="utf-8") as file:
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                batch = np.zeros((3, len(part), LENGTH), np.int32)
                for place, (ids, _, segments) in enumerate(part):
                    batch[:, place, : len(ids)] = ids, [1] * len(ids), segments
                names = ("input_ids", "input_mask", "segment_ids")
                feed = {name: tf.constant(x) for name, x in zip(names, batch, strict=True)}
                outputs = [x.numpy() for x in self.forward(feed)]
                for place, (_, tokens, _) in enumerate(part):
                    line = self.line(number, tokens, [x[place] for x in outputs])
                    file.write(json.dumps(line) + "\n")
                    number += 1

    def line(self, number, tokens, outputs):
        features = []
        for i, token in enumerate(tokens):
            layers = []
            for index, output in zip(self.config.layer_indexes(), outputs, strict=True):
                values = [round(float(x), 6) for x in output[i : i + 1].flat]
                layers.append(collections.OrderedDict(index=index, values=values))
            features.append(collections.OrderedDict(token=token, layers=layers))
        return collections.OrderedDict(linex_index=number, features=features)


def sentences(count: int) -> list[str]:
    """The second sentences of the bundled MultiNLI sample's training pairs."""
    lines = (ROOT / "examples" / "mnli" / "train.tsv").read_text("utf-8").splitlines()
    column = lines[0].split("\t").index("sentence2")
    return [line.split("\t")[column] for line in lines[1 : count + 1]]


def differences(first: str, second: str) -> str:
    if filecmp.cmp(first, second, shallow=False):
        return "byte for byte the same"
    largest, different, total = 0.0, 0, 0
    with open(first, encoding="utf-8") as ours, open(second, encoding="utf-8") as theirs:
        for pair in zip(ours, theirs, strict=True):
            a, b = (
                np.array([y["values"] for f in json.loads(x)["features"] for y in f["layers"]])
                for x in pair
            )
            largest = max(largest, float(np.abs(a - b).max()))
            different, total = different + int((a != b).sum()), total + a.size
    return f"{different:,} of {total:,} numbers differ, by {largest:.1e} at most"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(ROOT / "downloads" / "all-MiniLM-L6-v2"))
    parser.add_argument("--input_file", help="by default sentences of examples/mnli")
    parser.add_argument("--lines", type=int, default=1000, help="how many of those")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(common.machine(), common.versions("tensorflow", "keras"), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        source = options.input_file or f"{folder}/input.txt"
        if not options.input_file:
            Path(source).write_text("\n".join(sentences(options.lines)) + "\n", encoding="utf-8")
        config = FeatureExtractionConfig(
            input_file=source,
            output_file=f"{folder}/ours.jsonl",
            init_checkpoint=options.model,
            max_seq_length=LENGTH,
            batch_size=BATCH,
        )
        theirs = GooglesSteps(dataclasses.replace(config, output_file=f"{folder}/googles.jsonl"))
        with contextlib.redirect_stdout(io.StringIO()):
            ours = feature_extraction.FeatureExtractor(config)
        runs = {"Google's steps": theirs, "bert_tf": ours}
        times = {name: [] for name in runs}
        cpu = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                with contextlib.redirect_stdout(io.StringIO()):
                    run.run()
                times[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)
        pieces = [len(ids) for ids, _, _ in theirs.rows()]
        print(f"{len(pieces)} lines of {np.mean(pieces):.1f} pieces, [CLS] and [SEP] included")
        size = os.path.getsize(config.output_file) / 1e6
        for name, seconds in times.items():
            rate = len(pieces) / min(seconds)
            print(
                f"{name}: {min(seconds):.2f} s, {rate:.0f} lines/s, {min(cpu[name]):.2f} s of "
                f"processor time ({size:.0f} MB written)"
            )
        ratio, cpu_ratio = (min(x["Google's steps"]) / min(x["bert_tf"]) for x in (times, cpu))
        print(f"{ratio:.1f} times as fast, {cpu_ratio:.1f} times less processor time")
        print("The files:", differences(config.output_file, theirs.config.output_file))


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
