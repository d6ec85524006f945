"""How fast text becomes ids, beside Google's steps done plainly and Hugging Face's Rust code.

    pip install tokenizers
    python benchmarks/tokenization.py                         # the bundled MNLI and DRCD text
    python benchmarks/tokenization.py --corpus=en.txt --language=en --vocab_file=vocab.txt

One thread each, the same lines, the engines in turn; processor time, the best of `--rounds`.
"new text" is read by a tokenizer that has seen nothing yet, "repeated" by one that has read the
same text before. "all new words" is the hardest text: none of its words occurs twice.
"""

import argparse
import gzip
import json
import os
import random
import tempfile
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bert_tf.tokenization import FullTokenizer

ROOT = Path(__file__).resolve().parents[1]
VOCABS = ROOT / "tests" / "golden" / "vocabs"
BUNDLED_VOCAB = {"en": "bert-base-uncased-vocab.txt.gz", "zh": "bert-base-chinese-vocab.txt.gz"}
LANGUAGE_NAME = {"en": "English", "zh": "Chinese"}


class PlainTokenizer:
    """The steps of google-research/bert `tokenization.py`, in its order, character by character."""

    def __init__(self, vocab: dict[str, int], do_lower_case: bool = True):
        self.vocab = vocab
        self.do_lower_case = do_lower_case

    def encode(self, text: str) -> list[int]:
        pieces = []
        for word in self.words(text):
            pieces.extend(self.pieces(word))
        return [self.vocab[piece] for piece in pieces]

    def words(self, text: str) -> list[str]:
        found = []
        for chunk in self.space_cjk(self.clean(text)).strip().split():
            if self.do_lower_case:
                chunk = self.strip_accents(chunk.lower())
            found.extend(self.split_punctuation(chunk))
        return " ".join(found).strip().split()

    def clean(self, text: str) -> str:
        kept = []
        for char in text:
            if ord(char) in (0, 0xFFFD) or self.is_control(char):
                continue
            kept.append(" " if self.is_blank(char) else char)
        return "".join(kept)

    def space_cjk(self, text: str) -> str:
        spaced = []
        for char in text:
            if self.is_cjk(char):
                spaced.append(" ")
                spaced.append(char)
                spaced.append(" ")
            else:
                spaced.append(char)
        return "".join(spaced)

    def strip_accents(self, chunk: str) -> str:
        kept = []
        for char in unicodedata.normalize("NFD", chunk):
            if unicodedata.category(char) != "Mn":
                kept.append(char)
        return "".join(kept)

    def split_punctuation(self, chunk: str) -> list[str]:
        words: list[list[str]] = []
        starts_word = True
        for char in chunk:
            if self.is_punctuation(char):
                words.append([char])
                starts_word = True
            else:
                if starts_word:
                    words.append([])
                starts_word = False
                words[-1].append(char)
        return ["".join(word) for word in words]

    def pieces(self, word: str) -> list[str]:
        chars = list(word)
        if len(chars) > 200:
            return ["[UNK]"]
        found = []
        start = 0
        while start < len(chars):
            end = len(chars)
            piece = None
            while start < end:
                candidate = "".join(chars[start:end])
                if start > 0:
                    candidate = "##" + candidate
                if candidate in self.vocab:
                    piece = candidate
                    break
                end -= 1
            if piece is None:
                return ["[UNK]"]
            found.append(piece)
            start = end
        return found

    def is_blank(self, char: str) -> bool:
        return char in " \t\n\r" or unicodedata.category(char) == "Zs"

    def is_control(self, char: str) -> bool:
        return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")

    def is_punctuation(self, char: str) -> bool:
        code = ord(char)
        if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
            return True
        return unicodedata.category(char).startswith("P")

    def is_cjk(self, char: str) -> bool:
        code = ord(char)
        return (
            0x4E00 <= code <= 0x9FFF
            or 0x3400 <= code <= 0x4DBF
            or 0x20000 <= code <= 0x2A6DF
            or 0x2A700 <= code <= 0x2B73F
            or 0x2B740 <= code <= 0x2B81F
            or 0x2B820 <= code <= 0x2CEAF
            or 0xF900 <= code <= 0xFAFF
            or 0x2F800 <= code <= 0x2FA1F
        )


# Lines -> what turns them into ids when called.
Engine = Callable[[list[str]], Callable[[], object]]


def bundled_lines(language: str) -> list[str]:
    """The sentences of the bundled examples."""
    if language == "en":
        rows = (ROOT / "examples" / "mnli" / "train.tsv").read_text("utf-8").split("\n")[1:-1]
        return [text for row in rows for text in row.split("\t")[8:10]]
    rows = (ROOT / "examples" / "drcd_zh" / "train.jsonl").read_text("utf-8").split("\n")[:-1]
    return [text for row in map(json.loads, rows) for text in (row["question"], row["sentence"])]


def all_new_words(lines: list[str], seed: int = 0) -> list[str]:
    """Every whitespace-separated part of the lines once, in random order, 20 to a line."""
    parts = sorted({part for line in lines for part in line.split()})
    random.Random(seed).shuffle(parts)
    return [" ".join(parts[start : start + 20]) for start in range(0, len(parts), 20)]


def google_steps(vocab_file: str) -> Engine:
    tokenizer = PlainTokenizer(FullTokenizer(vocab_file).vocab)
    return lambda lines: lambda: list(map(tokenizer.encode, lines))


def hugging_face(vocab_file: str) -> Engine:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocab = FullTokenizer(vocab_file).vocab
    model = models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=200)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda lines: partial(tokenizer.encode_batch, lines, add_special_tokens=False)


def python_engine_anew(vocab_file: str) -> Engine:
    return lambda lines: partial(FullTokenizer(vocab_file).encode_batch, lines)


def python_engine(vocab_file: str) -> Engine:
    tokenizer = FullTokenizer(vocab_file)
    return lambda lines: partial(tokenizer.encode_batch, lines)


def graph_engine(vocab_file: str) -> Engine:
    import tensorflow as tf

    from bert_tf.graph_tokenization import GraphTokenizer

    tokenizer = GraphTokenizer(vocab_file)
    return lambda lines: partial(tokenizer, tf.constant(lines))


PLAIN, PEER, GRAPH = "Google's steps", "Hugging Face", "bert_tf, in graph"
ENGINES: dict[str, Callable[[str], Engine]] = {
    PLAIN: google_steps,
    PEER: hugging_face,
    "bert_tf, new text": python_engine_anew,
    "bert_tf, repeated": python_engine,
    GRAPH: graph_engine,
}


def measure(engines: dict[str, Engine], lines: list[str], rounds: int) -> dict[str, float]:
    """Engine -> the least processor time, in seconds, that the lines took."""
    best = dict.fromkeys(engines, float("inf"))
    for _ in range(rounds):
        for name, engine in engines.items():
            run = engine(lines)
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


def ids_of(result: Any) -> list[list[int]]:
    """The ids of each line, from what any of the engines returns."""
    lines = result.to_list() if hasattr(result, "to_list") else result
    return [getattr(line, "ids", line) for line in lines]


def report(title: str, engines: dict[str, Engine], lines: list[str], rounds: int) -> None:
    best = measure(engines, lines, rounds)
    wanted = ids_of(engines[PLAIN](lines)())
    characters = sum(map(len, lines))
    print(f"\n{title}: {len(lines)} lines, {characters} characters")
    print(f"{'':20}{'M chars/s':>12}{'x Google':>12}{'x Hugging Face':>16}{'lines differ':>14}")
    for name, seconds in best.items():
        speeds = (characters / 1e6, best[PLAIN], best[PEER])
        columns = "{:12.2f}{:12.1f}{:16.1f}".format(*(speed / seconds for speed in speeds))
        found = ids_of(engines[name](lines)())
        differ = sum(a != b for a, b in zip(found, wanted, strict=True))
        print(f"{name:20}{columns}{differ:14}")


def unpacked(vocab: Path, folder: str) -> str:
    """A bundled vocabulary as a plain file."""
    path = Path(folder) / vocab.stem
    path.write_bytes(gzip.decompress(vocab.read_bytes()))
    return str(path)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--language", choices=("en", "zh"), help="default: both")
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, a sentence a line")
    parser.add_argument("--vocab_file", help="default: Google's uncased or Chinese one")
    parser.add_argument("--max_characters", type=int, default=1_000_000, help="of the corpus")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graph", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if (arguments.corpus or arguments.vocab_file) and not arguments.language:
        parser.error("--corpus and --vocab_file need --language=en or --language=zh")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    # Before the libraries that read them are imported.
    os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    made = {name: make for name, make in ENGINES.items() if arguments.graph or name != GRAPH}
    with tempfile.TemporaryDirectory() as folder:
        for language in [arguments.language] if arguments.language else BUNDLED_VOCAB:
            vocab_file = arguments.vocab_file or unpacked(VOCABS / BUNDLED_VOCAB[language], folder)
            lines = bundled_lines(language)
            if arguments.corpus:
                lines = arguments.corpus.read_text("utf-8").split("\n")
            lines = shortened([line for line in lines if line], arguments.max_characters)
            engines = {name: make(vocab_file) for name, make in made.items()}
            for kind, text in (("text", lines), ("all new words", all_new_words(lines))):
                report(f"{LANGUAGE_NAME[language]}, {kind}", engines, text, arguments.rounds)


def shortened(lines: list[str], max_characters: int) -> list[str]:
    """The first lines that together have at most so many characters."""
    left = max_characters
    for number, line in enumerate(lines):
        left -= len(line)
        if left < 0:
            return lines[:number]
    return lines


if __name__ == "__main__":
    main()
