"""What the options of training cost or bring: time of a step, and memory.

    python benchmarks/training_options.py

Time: steps of MiniLM's shape (6 layers, 384 wide) on 16 rows of 64 tokens, all options in turn in
one process, as ratios to the default; the best of the rounds counts for each. Memory: the peak of
a process that trains on 64 rows of 128 tokens, above what it held before the first step.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time

import common
import keras
import numpy as np
import tensorflow as tf

from bert_tf import distribution, heads, training
from bert_tf.config import BertConfig
from bert_tf.data.records import RecordFile, classification_spec, write
from bert_tf.run_config import RunConfig
from bert_tf.tasks import objectives

VOCABULARY = 30522
BLOCK = 4  # steps that are timed together: one call of the graph for steps_per_execution=4
OPTIONS = {
    "default": {},
    "optimizer=adamw_bias_corrected": {"optimizer": "adamw_bias_corrected"},
    "optimizer=lamb": {"optimizer": "lamb"},
    "gradient_accumulation_steps=2": {"gradient_accumulation_steps": 2},
    "gradient_accumulation_steps=4": {"gradient_accumulation_steps": 4},
    "recompute": {"recompute": True},
    "steps_per_execution=4": {"steps_per_execution": BLOCK},
    "use_xla": {"use_xla": True},
    "layerwise_lr_decay=0.9": {"layerwise_lr_decay": 0.9},
    "freeze_layers=0": {"freeze_layers": 0},
    "freeze_layers=3": {"freeze_layers": 3},
    "freeze_layers=6": {"freeze_layers": 6},
}
MEMORY = {
    "default": {},
    "gradient_accumulation_steps=2": {"gradient_accumulation_steps": 2},
    "gradient_accumulation_steps=4": {"gradient_accumulation_steps": 4},
    "recompute": {"recompute": True},
    "recompute, 4 parts": {"recompute": True, "gradient_accumulation_steps": 4},
}


def rows(count: int, length: int):
    """Random ids, no padding."""
    random = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "input_ids": random.integers(1000, VOCABULARY, length).tolist(),
            "input_mask": [1] * length,
            "segment_ids": [0] * length,
            "label_ids": [int(random.integers(3))],
            "is_real_example": [1],
        }


def steps(folder: str, batch: int, length: int, **options):
    """The steps of a run, one log a `next`."""
    config = RunConfig(output_dir=folder, train_batch_size=batch, max_seq_length=length, **options)
    strategy = distribution.create_strategy(config)
    keras.utils.set_random_seed(1)
    spec = classification_spec(length, regression=False)
    path = f"{folder}/{length}.tf_record"
    if not tf.io.gfile.exists(path):
        write(path, rows(batch * 8, length), spec)
    bert = BertConfig(
        VOCABULARY,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        type_vocab_size=2,
    )
    with strategy.scope():
        model = heads.classifier(bert, 3)
    loop = training.Loop(config, model, objectives.sequence("classification"), strategy)
    if config.freeze_layers is not None:
        model.bert.freeze(config.freeze_layers)
    with strategy.scope():
        optimizer = loop.optimizer(100_000, 100)
        optimizer.build(model.trainable_variables)
    reads = loop.steps(RecordFile(path, spec), optimizer, range(100_000))
    return (logs for read in reads for logs in read)


def peak_bytes() -> int:
    """Of this process, so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory(name: str) -> None:
    """A contender's process: what training adds to the peak."""
    with tempfile.TemporaryDirectory() as folder:
        run = steps(folder, 64, 128, **MEMORY[name])
        before = peak_bytes()
        for _ in range(3):
            next(run)
        common.report({"bytes": peak_bytes() - before})
        run.close()


def times(rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each option's blocks, round by round, and of its first block (it compiles)."""
    found, first = {name: [] for name in OPTIONS}, {}
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: steps(folder, 16, 64, **options) for name, options in OPTIONS.items()}
        for number in range(rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                for _ in range(BLOCK):
                    next(run)
                seconds = time.perf_counter() - start
                if number:
                    found[name].append(seconds)
                else:
                    first[name] = seconds
        for run in runs.values():
            run.close()
    return found, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--memory_of", help="(for the script itself)")
    arguments = parser.parse_args()
    if arguments.memory_of:
        return memory(arguments.memory_of)
    print(common.machine(), common.versions("tensorflow", "keras"), sep="\n", flush=True)
    found, first = times(arguments.rounds)
    default = min(found["default"])
    print(f"\n{'option':<34} {'ms a step':>9} {'ratio':>6} {'first call, s':>14}")
    for name, seconds in found.items():
        best = min(seconds)
        print(f"{name:<34} {1e3 * best / BLOCK:9.0f} {best / default:6.2f} {first[name]:14.1f}")
    print("\nmemory that training adds, 64 rows of 128 tokens", flush=True)
    peaks = {}
    for name in MEMORY:
        done = common.run_contender(sys.executable, __file__, [f"--memory_of={name}"])
        peaks[name] = done["bytes"]
        ratio = peaks[name] / peaks["default"]
        print(f"{name:<34} {peaks[name] / 2**20:9,.0f} MB {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
