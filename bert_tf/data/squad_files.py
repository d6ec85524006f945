"""Question-answering files as they are published, all read into one form.

SQuAD 1.1 and 2.0; XQuAD and DRCD, which have SQuAD's form; CMRC2018 in SQuAD's form and in its own
(a list of passages, whose answers are texts without a place).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from absl import logging

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


def read(path: str) -> Dataset:
    """Reads a file of questions; how many answers are misplaced in it is logged.

    Raises: ValueError if the file is missing, no UTF-8 or no JSON (naming the line), or lacks a
      field, has one of another type, or an id twice (naming article and question).
    """
    document = read_json(path)
    if isinstance(document, list):
        questions = list(_cmrc_questions(path, document))
    else:
        questions = list(_squad_questions(_Object(document, path)))
    if not questions:
        raise ValueError(f"{path}: no questions in this file")
    seen: set[str] = set()
    for question in questions:
        if question.qas_id in seen:
            raise ValueError(f"{path}: {question.place}: there are two questions with this id")
        seen.add(question.qas_id)
    dataset = Dataset(path, questions)
    _report_misaligned(dataset)
    return dataset


def read_json(path: str) -> Any:
    """The content of a JSON file. Raises ValueError naming file and line if it is none."""
    text = read_text(path, remedy="give the path of a JSON file")
    for number, line in enumerate(text.split("\n"), start=1):
        if problem := broken(line):
            raise BadRow(path, number, problem)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRow(path, error.lineno, f"not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # numbers too long, nested too deeply
        raise ValueError(f"{path}: JSON that cannot be read ({error})") from error


@dataclass(frozen=True)
class _Object:
    """A JSON object, and where it stands."""

    fields: Any
    path: str
    place: str = ""

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

    def text(self, name: str) -> str:
        return self._whole(name, self.get(name, str, "text"))

    def texts(self, name: str) -> list[str]:
        values = self.get(name, list, "a list of texts")
        if not all(isinstance(value, str) for value in values):
            raise self.error(f"{name!r} must be a list of texts, not {values!r:.40}")
        return [self._whole(name, value) for value in values]

    def _whole(self, name: str, value: str) -> str:
        if _SURROGATES.search(value):
            raise self.error(f"{name!r} holds half of a surrogate pair")
        return value

    def objects(self, name: str) -> Iterator[_Object]:
        values = self.get(name, list, "a list")
        return (_Object(value, self.path, self.place) for value in values)

    def title(self, name: str, otherwise: str) -> str:
        value = self.fields.get(name)
        return value if isinstance(value, str) else otherwise


def _squad_questions(document: _Object) -> Iterator[Question]:
    for number, article in enumerate(document.objects("data"), start=1):
        title = article.title("title", f"number {number}")
        article = article.at(f"article {title!r}")
        for paragraph in article.objects("paragraphs"):
            passage = Passage(title, paragraph.text("context"))
            for qa in paragraph.objects("qas"):
                yield _squad_question(qa, passage)


def _squad_question(qa: _Object, passage: Passage) -> Question:
    qas_id = qa.text("id")
    qa = qa.at(f"question {qas_id!r}")
    answers = [
        Answer(answer.text("text"), answer.get("answer_start", int, "a whole number"))
        for answer in qa.objects("answers")
    ]
    is_impossible = None
    if "is_impossible" in qa.fields:
        is_impossible = qa.get("is_impossible", bool, "true or false")
    return Question(qas_id, qa.text("question"), passage, tuple(answers), is_impossible)


def _cmrc_questions(path: str, document: list[Any]) -> Iterator[Question]:
    for number, value in enumerate(document, start=1):
        paragraph = _Object(value, path, f"passage number {number}")
        title = paragraph.title("context_id", f"number {number}")
        passage = Passage(title, paragraph.text("context_text"))
        for qa in paragraph.at(f"context_id {title!r}").objects("qas"):
            qas_id = qa.text("query_id")
            qa = qa.at(f"question {qas_id!r}")
            answers = [Answer(text, passage.text.find(text)) for text in qa.texts("answers")]
            yield Question(qas_id, qa.text("query_text"), passage, tuple(answers), None)


def _report_misaligned(dataset: Dataset) -> None:
    misaligned = dataset.misaligned()
    if misaligned:
        logging.warning(
            "%s: of %d questions (the first: %s) the passage does not have an answer where the "
            "file says",
            *(dataset.path, len(misaligned), misaligned[0].place),
        )
