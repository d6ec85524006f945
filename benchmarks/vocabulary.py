"""How long it takes to learn a vocabulary, in how much memory, and how good it is.

    python benchmarks/vocabulary.py                # 100 MB, 30,000 pieces
    pip install tokenizers                         # beside Hugging Face's trainer too

The 100 MB are those of benchmarks/pretraining_data.py: the bundled articles, in which every other
word is one of a million made-up ones, so that there are as many different words as in natural text.
How good a vocabulary is: pieces a word, and words that are unknown, in the four bundled articles
that none of them has seen, with 8,000 tokens of the other 44; Google's 30,522 beside them.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pretraining_data import CORPUS, ROOT, make_big, peak_memory
from tokenization import BUNDLED_VOCAB, VOCABS, unpacked

from bert_tf.data.corpora import Corpus
from bert_tf.tasks import vocabulary_learning
from bert_tf.tokenization import FullTokenizer

SMALL = 8000


def learn(path: Path, size: int, workers: int, output: Path) -> None:
    """The command, its seconds and its memory."""
    command = [
        *(sys.executable, "-m", "bert_tf.vocabulary", "learn", f"--input={path}"),
        *(f"--vocab_size={size}", f"--output={output}", f"--num_workers={workers}"),
    ]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    peak = peak_memory(process)
    seconds = time.monotonic() - start
    assert process.stdout is not None
    print(process.stdout.read().decode().splitlines()[0])
    print(f"{size} pieces, {workers} workers: {seconds:.0f} s, at most {peak / 1e6:.0f} MB")


def measure(name: str, vocab_file: str) -> None:
    """Of the held-out articles."""
    tokenizer = FullTokenizer(vocab_file)
    texts = Corpus([str(CORPUS.with_name("dev.txt.gz"))], "google").texts()
    words = [word for text in texts for word in tokenizer.basic_tokenizer.tokenize(text)]
    pieces = [tokenizer.tokenize(word) for word in words]
    unknown = sum("[UNK]" in found for found in pieces) / len(words)
    print(f"{name:20} {sum(map(len, pieces)) / len(words):.3f} a word, {unknown:.3%} unknown")


def compare(folder: Path) -> None:
    """Vocabularies of the same text and size."""
    words, _ = vocabulary_learning.count_words(Corpus([str(CORPUS)], "google"), True)
    start = time.process_time()
    tokens = vocabulary_learning.learn(words, SMALL, character_coverage=0.9999)
    print(f"{SMALL} pieces of {len(words)} words: {time.process_time() - start:.1f} s")
    (folder / "ours.txt").write_text("".join(f"{token}\n" for token in tokens), "utf-8")
    measure("bert_tf", str(folder / "ours.txt"))
    if importlib.util.find_spec("tokenizers"):
        from tokenizers import BertWordPieceTokenizer

        text = folder / "corpus.txt"
        text.write_bytes(gzip.decompress(CORPUS.read_bytes()))
        peer = BertWordPieceTokenizer()
        peer.train([str(text)], vocab_size=SMALL, show_progress=False)
        peer.save_model(str(folder), "theirs")
        measure("Hugging Face", str(folder / "theirs-vocab.txt"))
    else:
        print("tokenizers is not installed")
    measure("Google, 30,522", unpacked(VOCABS / BUNDLED_VOCAB["en"], str(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare(folder)
        text = folder / "corpus.txt"
        text.write_bytes(gzip.decompress(CORPUS.read_bytes()))
        make_big(str(text), given.megabytes, folder / "big.txt")
        learn(folder / "big.txt", 30_000, 2, folder / "big-vocab.txt")


if __name__ == "__main__":
    main()
