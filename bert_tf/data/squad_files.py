"""Question-answering files as they are published, all read into one form.

SQuAD 1.1 and 2.0; XQuAD and DRCD, which have SQuAD's form; CMRC2018 in SQuAD's form and in its own
(a list of passages, whose answers are texts without a place). Also a question a row, as Hugging
Face's datasets write it: in "data", in a list, or in the lines of a .jsonl file. A number where a
text belongs is read as the official scorers read it: CMRC2018's development set has numbers among
its answers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from absl import logging

from bert_tf.data.json_lines import json_rows
from bert_tf.data.text_files import BadRow, broken, did_you_mean, read_text

_SURROGATES = re.compile(r"[\ud800-\udfff]")


class Answer(NamedTuple):
    """An annotated answer and where in the passage it begins, in characters.

    Of an answer that was published without a place, `start` is that of its first occurrence, or
    -1 if there is none.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """A text that questions are asked about."""

    article: str  # its title, or its number if it has none
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question; all questions on one text share its `Passage`.

    `is_impossible` is None in a file that does not say it of its questions (SQuAD 1.1).
    """

    qas_id: str
    text: str
    passage: Passage
    answers: tuple[Answer, ...]
    is_impossible: bool | None

    @property
    def place(self) -> str:
        """Where in its file the question stands, for messages."""
        return f"article {self.passage.article!r}, question {self.qas_id!r}"

    def is_aligned(self, answer: Answer) -> bool:
        """Whether the passage has the answer where the file says."""
        return answer.start >= 0 and self.passage.text.startswith(answer.text, answer.start)


@dataclass(frozen=True)
class Dataset:
    """The questions of a file, in its order."""

    path: str
    questions: Sequence[Question]

    @property
    def has_impossible(self) -> bool:
        """Whether the file says which questions cannot be answered, as SQuAD 2.0 does."""
        return any(question.is_impossible is not None for question in self.questions)

    def misaligned(self) -> list[Question]:
        """The questions with an answer that the passage does not have where the file says."""
        return [q for q in self.questions if not all(map(q.is_aligned, q.answers))]


def read(path: str, to_train: bool = False) -> Dataset:
    """Read a file of questions, and log how many answers are misplaced and which texts are numbers.

    A question without the field `answers` has none, as in a file that is to be predicted only.

    Args:
      to_train: take questions that share an id, which training does without, and log them.

    Raises:
      ValueError: the file is missing, no UTF-8 or no JSON (naming the line), or lacks a field,
        has one of another type, or an id twice (naming article and question).
    """
    if path.endswith(".jsonl"):
        document: Any = [row for _, row in json_rows(path)]
    else:
        document = read_json(path)
    numbers: list[str] = []
    if isinstance(document, list) and not _is_cmrc(document):
        document = {"data": document}
    if isinstance(document, list):
        questions = list(_cmrc_questions(path, document, numbers))
    else:
        questions = list(_squad_questions(_Object(document, path, numbers=numbers)))
    if not questions:
        raise ValueError(f"{path}: no questions in this file")
    dataset = Dataset(path, questions)
    _check_ids(dataset, to_train)
    if numbers:
        logging.warning(
            "%s: numbers read as text: %d (the first: %s)", path, len(numbers), numbers[0]
        )
    _report_misaligned(dataset)
    return dataset


def _is_cmrc(rows: list[Any]) -> bool:
    """Whether a list has CMRC2018's passages, and not what stands in SQuAD's "data"."""
    return (
        bool(rows)
        and isinstance(rows[0], dict)
        and bool({"context_id", "context_text"} & rows[0].keys())
    )


def _check_ids(dataset: Dataset, to_train: bool) -> None:
    first = {question.qas_id: question for question in reversed(dataset.questions)}
    twice = [q for q in dataset.questions if first[q.qas_id] is not q]
    if not twice:
        return
    if not to_train:
        raise ValueError(
            f"{dataset.path}: {twice[0].place}: there are two questions with this id; answers "
            "are written by id, so give each question its own"
        )
    logging.warning(
        "%s: %d questions have the id of another one (the first: %s)",
        *(dataset.path, len(twice), twice[0].place),
    )


def read_json(path: str) -> Any:
    """The content of a JSON file. Raises ValueError naming file and line if it is none."""
    text = read_text(path, remedy="give the path of a JSON file")
    for number, line in enumerate(text.split("\n"), start=1):
        if problem := broken(line):
            raise BadRow(path, number, f"{problem}; save the file as UTF-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"not JSON ({error.msg})"
        if error.msg == "Extra data":
            problem += "; if each line is a question, name the file .jsonl"
        raise BadRow(path, error.lineno, problem) from error
    except (ValueError, RecursionError) as error:  # numbers too long, nested too deeply
        raise ValueError(f"{path}: JSON that cannot be read ({error})") from error


@dataclass(frozen=True)
class _Object:
    """A JSON object, and where it stands."""

    fields: Any
    path: str
    place: str = ""
    numbers: list[str] = field(default_factory=list)  # where a text was one, in the whole file

    def __post_init__(self) -> None:
        if not isinstance(self.fields, dict):
            raise self.error(f"expected an object, not {self.fields!r:.40}")

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {self.place + ': ' if self.place else ''}{problem}")

    def at(self, place: str) -> _Object:
        return replace(self, place=f"{self.place}, {place}" if self.place else place)

    def get(self, name: str, kind: type, what: str) -> Any:
        if name not in self.fields:
            raise self.error(f"{name!r} is missing.{did_you_mean(name, list(self.fields)[:20])}")
        value = self.fields[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{name!r} must be {what}, not {value!r:.40}")
        return value

    def has(self, name: str) -> bool:
        """Whether there is a value; null is none."""
        return self.fields.get(name) is not None

    def text(self, name: str) -> str:
        return self._as_text(name, self.get(name, object, "text"), "text")

    def texts(self, name: str) -> list[str]:
        values = self.get(name, list, "a list of texts")
        return [self._as_text(name, value, "a list of texts") for value in values]

    def _as_text(self, name: str, value: object, what: str) -> str:
        if is_number(value):
            self.numbers.append(f"{self.place}, {name!r}: {value}")
            return str(value)
        if not isinstance(value, str):
            raise self.error(f"{name!r} must be {what}, not {self.fields[name]!r:.40}")
        if _SURROGATES.search(value):
            raise self.error(f"{name!r} holds half of a surrogate pair")
        return value

    def objects(self, name: str) -> Iterator[_Object]:
        values = self.get(name, list, "a list")
        return (replace(self, fields=value) for value in values)

    def title(self, name: str, otherwise: str) -> str:
        value = self.fields.get(name)
        return str(value) if isinstance(value, str) or is_number(value) else otherwise


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number, which the official scorers take for its text."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _squad_questions(document: _Object) -> Iterator[Question]:
    if "data" not in document.fields:
        found = ", ".join(map(repr, list(document.fields)[:20])) or "nothing"
        raise document.error(
            f"'data' is missing, there is {found}; expected SQuAD's form, "
            '{"data": [{"paragraphs": [{"context": "...", "qas": [...]}]}]}'
        )
    passages: dict[tuple[str, str], Passage] = {}  # of the rows that are questions
    for number, article in enumerate(document.objects("data"), start=1):
        title = article.title("title", f"number {number}")
        article = article.at(f"article {title!r}")
        if "question" in article.fields:
            key = title, article.text("context")
            yield _squad_question(article, passages.setdefault(key, Passage(*key)))
            continue
        for paragraph in article.objects("paragraphs"):
            passage = Passage(title, paragraph.text("context"))
            for qa in paragraph.objects("qas"):
                yield _squad_question(qa, passage)


def _squad_question(qa: _Object, passage: Passage) -> Question:
    qas_id = qa.text("id")
    qa = qa.at(f"question {qas_id!r}")
    is_impossible = None
    if qa.has("is_impossible"):
        is_impossible = qa.get("is_impossible", bool, "true or false")
    if isinstance(qa.fields.get("answers"), dict):
        qa = _with_answers_as_rows(qa)
        if is_impossible is None and not qa.fields["answers"]:  # nothing else says it in this form
            is_impossible = True
    answers = [
        Answer(answer.text("text"), answer.get("answer_start", int, "a whole number"))
        for answer in (qa.objects("answers") if qa.has("answers") else ())
    ]
    return Question(qas_id, qa.text("question"), passage, tuple(answers), is_impossible)


def _with_answers_as_rows(qa: _Object) -> _Object:
    """Change `{"text": [a, b], "answer_start": [1, 2]}` into an object for each answer."""
    names = ("text", "answer_start")
    columns = replace(qa.at("'answers'"), fields=qa.fields["answers"])
    values = [columns.get(name, list, "a list") for name in names]
    if len(values[0]) != len(values[1]):
        raise columns.error(f"{len(values[0])} texts and {len(values[1])} places")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    return replace(qa, fields=qa.fields | {"answers": rows})


def _cmrc_questions(path: str, document: list[Any], numbers: list[str]) -> Iterator[Question]:
    for number, value in enumerate(document, start=1):
        paragraph = _Object(value, path, f"passage number {number}", numbers)
        title = paragraph.title("context_id", f"number {number}")
        passage = Passage(title, paragraph.text("context_text"))
        for qa in paragraph.at(f"context_id {title!r}").objects("qas"):
            qas_id = qa.text("query_id")
            qa = qa.at(f"question {qas_id!r}")
            texts = qa.texts("answers") if qa.has("answers") else ()
            answers = [Answer(text, passage.text.find(text)) for text in texts]
            yield Question(qas_id, qa.text("query_text"), passage, tuple(answers), None)


def _report_misaligned(dataset: Dataset) -> None:
    misaligned = dataset.misaligned()
    if misaligned:
        logging.warning(
            "%s: of %d questions (the first: %s) the passage does not have an answer where the "
            "file says",
            *(dataset.path, len(misaligned), misaligned[0].place),
        )
