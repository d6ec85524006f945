"""Rows for pre-training: create_pretraining_data.py beside google-research/bert's own program.

    pip install --no-deps --target=/tmp/google_bert bert-tensorflow==1.0.4
    python benchmarks/pretraining_data.py --google=/tmp/google_bert            # the bundled text
    python benchmarks/pretraining_data.py --google=/tmp/google_bert --big=100  # and 100 MB

bert-tensorflow holds Google's program as it was published, for TensorFlow 1; today's TensorFlow
runs it through its own `compat.v1`. Both make the same rows of the same file with one process,
which is checked; in turn, the best of `--rounds`. "program" is the time of the whole command,
start included; "work" is the processor time after the imports.

`--big` makes a corpus of so many megabytes whose words are as many and as frequent as in natural
text: the lines of the input, in which every other word becomes one of a million made-up words
drawn by Zipf's law. One worker and two then make it into rows, in commands of their own, which are
asked how much memory they take, all their processes together.
"""

from __future__ import annotations

import argparse
import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenization import BUNDLED_VOCAB, VOCABS, unpacked

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "examples" / "wiki_en" / "train.txt.gz"
LENGTH, MASKS = 128, 20

# Runs a program of Google's under today's TensorFlow: argv is its folder, then its flags.
GOOGLE = """
import sys, time
import tensorflow.compat.v1 as tf
sys.path.insert(0, sys.argv.pop(1))
from bert import create_pretraining_data
tf.flags.FLAGS(sys.argv)
start = time.process_time()
create_pretraining_data.main(None)
print("work", time.process_time() - start)
"""
OURS = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
import create_pretraining_data
from bert_tf import cli
from bert_tf.tasks import pretraining_data
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from absl import flags
cli.define_flags(PretrainingDataConfig)
flags.FLAGS(sys.argv)
start = time.process_time()
pretraining_data.run(cli.config_from_flags(PretrainingDataConfig))
print("work", time.process_time() - start)
"""


def flags(corpus: str, output: str, vocab: str, dupe_factor: int) -> list[str]:
    """What both programs are told."""
    return [
        *(f"--input_file={corpus}", f"--output_file={output}", f"--vocab_file={vocab}"),
        f"--dupe_factor={dupe_factor}",
    ]


def compare(corpus: str, vocab: str, dupe_factor: int, google: str, rounds: int) -> None:
    """Google's program and ours, in turn, with the rows compared."""
    from bert_tf.data.records import RecordFile, pretraining_spec

    best: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: os.path.join(folder, name) for name in ("Google", "bert_tf")}
        codes = {"Google": (GOOGLE, google), "bert_tf": (OURS, str(ROOT))}
        for _ in range(rounds):
            for name, (code, path) in codes.items():
                start = time.monotonic()
                told = flags(corpus, paths[name], vocab, dupe_factor)
                command = [sys.executable, "-c", code, path, *told]
                ran = subprocess.run(command, check=True, capture_output=True, text=True)
                program = time.monotonic() - start
                work = float(ran.stdout.rpartition("work ")[2])
                before = best.get(name, (program, work))
                best[name] = min(program, before[0]), min(work, before[1])
        files = [RecordFile(path, pretraining_spec(LENGTH, MASKS)) for path in paths.values()]
        every = np.arange(len(files[0]))
        ours, theirs = (file.batch(every) for file in files)
        assert len(files[0]) == len(files[1])
        assert all((ours[name] == theirs[name]).all() for name in ours)
    for name, (program, work) in best.items():
        print(f"{name:8} program {program:6.2f} s, work {work:6.2f} s")
    ratios = [a / b for a, b in zip(best["Google"], best["bert_tf"], strict=True)]
    print(f"times as fast: program {ratios[0]:.1f}, work {ratios[1]:.1f}; ", end="")
    print(f"{len(every)} rows, all the same")


def make_big(corpus: str, megabytes: int, path: Path) -> None:
    """Text of so many megabytes in which every other word is made up."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    lengths = rng.integers(3, 11, 1_000_000)
    spelled = rng.choice(letters, lengths.sum(), p=np.arange(26, 0, -1) / 351)
    words = ["".join(part) for part in np.split(spelled, np.cumsum(lengths)[:-1])]
    lines = Path(corpus).read_text("utf-8").split("\n")
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1_000_000:
            for line in lines:
                parts = line.split(" ")
                drawn = np.minimum(rng.zipf(1.2, len(parts)) - 1, len(words) - 1)
                for i in range(1, len(parts), 2):
                    parts[i] = words[drawn[i]]
                file.write(" ".join(parts) + "\n")
                size += len(line) + 1


def big(corpus: str, vocab: str, megabytes: int) -> None:
    """One worker and two on much text: seconds and memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.txt"
        make_big(corpus, megabytes, path)
        print(f"{path.stat().st_size / 1e6:.0f} MB, --dupe_factor=1")
        times = {}
        for workers in (1, 2):
            told = flags(str(path), os.path.join(folder, "rows"), vocab, 1)
            script = str(ROOT / "create_pretraining_data.py")
            command = [sys.executable, script, *told, f"--num_workers={workers}"]
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            peak = peak_memory(process)
            times[workers] = time.monotonic() - start
            assert process.stdout is not None
            print(process.stdout.read().decode().splitlines()[0])
            print(f"--num_workers={workers}: {times[workers]:.1f} s, at most {peak / 1e6:.0f} MB")
        print(f"two workers are {times[1] / times[2]:.2f} times as fast")


def peak_memory(process: subprocess.Popen) -> int:
    """Bytes that a process and its children held together at most, asked ten times a second."""
    peak = 0
    while process.poll() is None:
        time.sleep(0.1)
        peak = max(peak, sum(map(resident, family(process.pid))))
    return peak


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(p for child in children for p in family(child))]


def resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--input_file", help="a sentence a line; by default the bundled one")
    parser.add_argument("--google", help="where bert-tensorflow lies; left out, ours alone")
    parser.add_argument("--dupe_factor", type=int, default=10, help="as in Google's program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--big", type=int, default=0, metavar="MB", help="also so much text")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = given.input_file
        if corpus is None:
            corpus = os.path.join(folder, "corpus.txt")
            Path(corpus).write_bytes(gzip.decompress(CORPUS.read_bytes()))
        vocab = unpacked(VOCABS / BUNDLED_VOCAB["en"], folder)
        if given.google:
            compare(corpus, vocab, given.dupe_factor, given.google, given.rounds)
        if given.big:
            big(corpus, vocab, given.big)


if __name__ == "__main__":
    main()
