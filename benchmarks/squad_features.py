"""How fast questions become rows, and scores answers, beside Google's steps done plainly.

    python benchmarks/squad_features.py                               # two articles, bundled
    python benchmarks/squad_features.py --dataset=dev-v1.1.json       # some minutes

One thread, the same file, both in turn; processor time, the best of `--rounds`. Rows are those of
training (with the first answer of each question) at Google's default lengths; scores are random,
with the annotated answer ahead. "differ" counts rows, and questions, with another result: with
`google_exact` there must be none.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import gzip
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenization import BUNDLED_VOCAB, VOCABS, PlainTokenizer, unpacked

from bert_tf.data import squad_files
from bert_tf.data.squad_answers import AnswerSettings, extract
from bert_tf.data.squad_files import Dataset, Question
from bert_tf.data.squad_training import training_windows
from bert_tf.data.squad_windows import FIRST_UNIQUE_ID, WindowSettings
from bert_tf.tokenization import FullTokenizer

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "tests" / "golden" / "squad" / "v1_input.json.gz"


class PlainPieces(PlainTokenizer):
    """Pieces as text, which is what the program works with."""

    def tokenize(self, text: str) -> list[str]:
        return [piece for word in self.words(text) for piece in self.pieces(word)]


class PlainSquad:
    """The steps of google-research/bert `run_squad.py`, in its order, question by question."""

    def __init__(self, vocab: dict[str, int], settings: WindowSettings, do_lower_case: bool = True):
        self.tokenizer = PlainPieces(vocab, do_lower_case)
        self.settings = settings

    def rows(self, questions: list[Question]) -> Iterator[dict[str, Any]]:
        """The features of each window, one by one, as Google's FeatureWriter is given them."""
        number = 0
        previous = None
        for index, question in enumerate(questions):
            if question.passage is not previous:
                previous = question.passage
                words, word_of_character = self.split(previous.text)
            for row in self.question_rows(index, question, words, word_of_character, number):
                yield row
                number += 1

    def split(self, text: str) -> tuple[list[str], list[int]]:
        words: list[str] = []
        word_of_character = []
        after_blank = True
        for character in text:
            if character in " \t\r\n\u202f":
                after_blank = True
            else:
                if after_blank:
                    words.append(character)
                else:
                    words[-1] += character
                after_blank = False
            word_of_character.append(len(words) - 1)
        return words, word_of_character

    def question_rows(
        self,
        index: int,
        question: Question,
        words: list[str],
        word_of_character: list[int],
        number: int,
    ) -> list[dict[str, Any]]:
        settings = self.settings
        query = self.tokenizer.tokenize(question.text)[: settings.max_query_length]
        word_of_piece, first_piece, pieces = [], [], []
        for at, word in enumerate(words):
            first_piece.append(len(pieces))
            for piece in self.tokenizer.tokenize(word):
                word_of_piece.append(at)
                pieces.append(piece)
        answer = question.answers[0]
        first = word_of_character[answer.start]
        last = word_of_character[answer.start + len(answer.text) - 1]
        start = first_piece[first]
        end = first_piece[last + 1] - 1 if last < len(words) - 1 else len(pieces) - 1
        start, end = self.improve(pieces, start, end, answer.text)
        spans = self.spans(len(pieces), settings.max_seq_length - len(query) - 3)
        rows = []
        for span_index, (begin, length) in enumerate(spans):
            tokens = ["[CLS]", *query, "[SEP]"]
            segments = [0] * len(tokens)
            words_of, contexts = {}, {}
            for piece in range(begin, begin + length):
                words_of[len(tokens)] = word_of_piece[piece]
                contexts[len(tokens)] = self.is_max_context(spans, span_index, piece)
                tokens.append(pieces[piece])
                segments.append(1)
            tokens.append("[SEP]")
            segments.append(1)
            ids = [self.tokenizer.vocab[token] for token in tokens]
            mask = [1] * len(ids)
            while len(ids) < settings.max_seq_length:
                ids.append(0)
                mask.append(0)
                segments.append(0)
            inside = begin <= start and end <= begin + length - 1
            shift = len(query) + 2 - begin
            features = {
                "unique_ids": [FIRST_UNIQUE_ID + number + span_index],
                "input_ids": ids,
                "input_mask": mask,
                "segment_ids": segments,
                "start_positions": [start + shift if inside else 0],
                "end_positions": [end + shift if inside else 0],
                "is_impossible": [0],
            }
            rows.append(
                {"features": features, "tokens": tokens, "words_of": words_of, "contexts": contexts}
                | {"words": words, "question": index}
            )
        return rows

    def improve(self, pieces: list[str], start: int, end: int, answer: str) -> tuple[int, int]:
        wanted = " ".join(self.tokenizer.tokenize(answer))
        for new_start in range(start, end + 1):
            for new_end in range(end, new_start - 1, -1):
                if " ".join(pieces[new_start : new_end + 1]) == wanted:
                    return new_start, new_end
        return start, end

    def spans(self, total: int, room: int) -> list[tuple[int, int]]:
        spans = []
        start = 0
        while start < total:
            length = min(total - start, room)
            spans.append((start, length))
            if start + length == total:
                break
            start += min(length, self.settings.doc_stride)
        return spans

    def is_max_context(self, spans: list[tuple[int, int]], index: int, piece: int) -> bool:
        best_score = best_index = None
        for number, (start, length) in enumerate(spans):
            if not start <= piece < start + length:
                continue
            score = min(piece - start, start + length - 1 - piece) + 0.01 * length
            if best_score is None or score > best_score:
                best_score, best_index = score, number
        return index == best_index

    def answers(
        self, rows: list[dict[str, Any]], logits: list[tuple[list[float], list[float]]]
    ) -> dict[int, list[tuple[str, float, float]]]:
        """The n best answers to each question of SQuAD 1.1, with their two logits."""
        of_question: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            of_question.setdefault(row["question"], []).append(number)
        answers = {}
        for question, numbers in of_question.items():
            found = [c for number in numbers for c in self.candidates(rows, logits, number)]
            found.sort(key=lambda candidate: candidate[3] + candidate[4], reverse=True)
            best: dict[str, tuple[str, float, float]] = {}
            for number, start, end, start_logit, end_logit in found:
                if len(best) >= 20:
                    break
                text = self.text(rows[number], start, end)
                best.setdefault(text, (text, start_logit, end_logit))
            answers[question] = list(best.values())
        return answers

    def candidates(self, rows: Any, logits: Any, number: int) -> list[tuple]:
        row, (start_logits, end_logits) = rows[number], logits[number]
        found = []
        ends = self.best(end_logits)
        for start in self.best(start_logits):
            for end in ends:
                if start not in row["words_of"] or end not in row["words_of"]:
                    continue
                if not row["contexts"].get(start, False) or not 0 <= end - start < 30:
                    continue
                found.append((number, start, end, start_logits[start], end_logits[end]))
        return found

    def best(self, logits: list[float]) -> list[int]:
        order = sorted(enumerate(logits), key=lambda pair: pair[1], reverse=True)
        return [index for index, _ in order[:20]]

    def text(self, row: dict[str, Any], start: int, end: int) -> str:
        spelled = " ".join(row["tokens"][start : end + 1]).replace(" ##", "").replace("##", "")
        spelled = " ".join(spelled.split())
        words = row["words"][row["words_of"][start] : row["words_of"][end] + 1]
        return self.final_text(spelled, " ".join(words))

    def final_text(self, wanted: str, text: str) -> str:
        tokenized = " ".join(self.tokenizer.words(text))
        first = tokenized.find(wanted)
        if first < 0:
            return text
        places, tokenized_places = (
            {rank: at for rank, at in enumerate(at for at, c in enumerate(side) if c != " ")}
            for side in (text, tokenized)
        )
        if len(places) != len(tokenized_places):
            return text
        ranks = {at: rank for rank, at in tokenized_places.items()}
        last = first + len(wanted) - 1
        if first not in ranks or last not in ranks:
            return text
        return text[places[ranks[first]] : places[ranks[last]] + 1]


def best_time(rounds: int, *prepare: Callable[[], Callable[[], Any]]) -> list[float]:
    """The least processor time, in seconds, of what each returns."""
    best = [float("inf")] * len(prepare)
    for _ in range(rounds):
        for number, make in enumerate(prepare):
            run = make()
            start = time.process_time()
            run()
            best[number] = min(best[number], time.process_time() - start)
    return best


def line(name: str, plain: float, ours: float, differ: int, total: int) -> None:
    print(f"{name:24}{plain:12.2f}{ours:12.2f}{plain / ours:10.1f}{differ:10} of {total}")


def measure_rows(dataset: Dataset, vocab_file: str, plain: PlainSquad, rounds: int) -> None:
    def ours(google_exact: bool, keep: Callable[[Iterator], Any]) -> Callable[[], Any]:
        settings = WindowSettings(google_exact=google_exact)
        tokenizer = FullTokenizer(vocab_file)  # one that has seen nothing yet
        return lambda: keep(training_windows(dataset, tokenizer, settings, shuffle=False)[0].rows())

    last = functools.partial(collections.deque, maxlen=1)  # uses up an iterator
    wanted = [row["features"] for row in plain.rows(list(dataset.questions))]
    times = best_time(
        rounds,
        lambda: lambda: last(plain.rows(list(dataset.questions))),
        lambda: ours(False, last),
        lambda: ours(True, last),
    )
    for exact, seconds in ((False, times[1]), (True, times[2])):
        differ = sum(a != b for a, b in zip(wanted, ours(exact, list)(), strict=True))
        line(f"rows{', google_exact' * exact}", times[0], seconds, differ, len(wanted))


def measure_answers(dataset: Dataset, vocab_file: str, plain: PlainSquad, rounds: int) -> None:
    tokenizer = FullTokenizer(vocab_file)
    windows, _ = training_windows(dataset, tokenizer, plain.settings, shuffle=False)
    start, end = np.random.default_rng(0).normal(size=(2, len(windows), 384))
    rows = np.arange(len(windows))
    start[rows, windows.positions[:, 0]] += 8
    end[rows, windows.positions[:, 1]] += 8
    logits = list(zip(start.tolist(), end.tolist(), strict=True))
    plain_rows = list(plain.rows(list(dataset.questions)))
    wanted = plain.answers(plain_rows, logits).values()
    settings = [AnswerSettings(google_exact=exact) for exact in (False, True)]
    times = best_time(
        rounds,
        lambda: lambda: plain.answers(plain_rows, logits),
        *(lambda s=s: lambda: extract(windows, start, end, s) for s in settings),
    )
    for setting, seconds in zip(settings, times[1:], strict=True):
        found = extract(windows, start, end, setting).nbest.values()
        ours = [[(e["text"], e["start_logit"], e["end_logit"]) for e in es] for es in found]
        differ = sum(a != b for a, b in zip(wanted, ours, strict=True))
        name = f"n best{', google_exact' * setting.google_exact}"
        line(name, times[0], seconds, differ, len(wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", help="a file in SQuAD 1.1's form (default: bundled)")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the vocabulary")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.dataset
        if path is None:
            path = str(Path(folder) / "squad.json")
            Path(path).write_bytes(gzip.decompress(BUNDLED.read_bytes()))
        questions = squad_files.read(path).questions
        first = Dataset(path, [dataclasses.replace(q, answers=q.answers[:1]) for q in questions])
        vocab_file = unpacked(VOCABS / BUNDLED_VOCAB[arguments.language], folder)
        plain = PlainSquad(FullTokenizer(vocab_file).vocab, WindowSettings())
        print(f"{len(questions)} questions")
        print(f"{'':24}{'Google, s':>12}{'bert_tf, s':>12}{'ratio':>10}{'differ':>10}")
        for measure in (measure_rows, measure_answers):
            measure(first, vocab_file, plain, arguments.rounds)


if __name__ == "__main__":
    main()
