"""What the reports of taggers and question answerers say, and when they have collapsed."""

import json
from pathlib import Path

import pytest

from bert_tf.data import squad_files
from bert_tf.data.tagging import TaggingTask
from bert_tf.tasks import question_answering_report, tagging_report
from bert_tf.tokenization import FullTokenizer

TINY = Path(__file__).parent / "tiny"


def tagged(tmp_path, kind, text):
    path = tmp_path / f"dev.{kind}"
    path.write_text(text, encoding="utf-8")
    task = TaggingTask("conll" if kind == "txt" else kind)
    tokenizer = FullTokenizer(TINY / "vocab.txt")
    return task.read(str(path), task.tag_set(str(path)), tokenizer)


def errors(sections):
    """Title -> the rows of its tables."""
    return {s.title: [row for table in s.tables for row in table.rows] for s in sections}


ENTITIES = "he B-WHO\nsaw O\n\nshe B-WHO\nliked O\nthe B-WHAT\nfilm I-WHAT\n"


def test_a_tagger_that_finds_nothing_has_collapsed(tmp_path):
    file = tagged(tmp_path, "txt", ENTITIES)
    reason = tagging_report.collapse(file, [["O"] * 2, ["O"] * 4])
    assert reason == "it gives all 6 words the label 'O', and finds none of the 3 entities"
    assert tagging_report.collapse(file, [["B-WHO", "O"], ["O"] * 4]) is None
    nouns = tagged(tmp_path, "txt", "he N\nsaw V\nher N\n")
    reason = tagging_report.collapse(nouns, [["N"] * 3])
    assert reason == "it gives all 3 words the label 'N', which 2 of them have"
    nothing_else = tagged(tmp_path, "txt", ENTITIES)
    nothing_else.examples[1:] = []
    object.__setattr__(nothing_else.examples[0], "labels", ("O", "O"))
    assert tagging_report.collapse(nothing_else, [["O"] * 2]) is None  # and it is right


def test_errors_of_a_tagger(tmp_path):
    file = tagged(tmp_path, "txt", ENTITIES)
    predicted = [["B-WHO", "O"], ["B-WHO", "O", "O", "B-WHAT"]]
    found = errors(tagging_report.sections(file, predicted, file.scores(predicted)))
    assert [row[0] for row in found["Entities"]] == ["WHAT", "WHO", "all"]
    ((place, text, true, answer, wrong),) = found["Worst errors"]
    assert (place, text.shown, wrong) == (f"{file.path}:4", "she liked the film", 2)
    assert (true.shown, answer.shown) == ("WHO: she; WHAT: the film", "WHO: she; WHAT: film")
    right = [example.labels for example in file.examples]
    assert "Worst errors" not in errors(tagging_report.sections(file, right, file.scores(right)))


def test_errors_of_entities_by_characters_and_of_classes(tmp_path):
    row = {"text": "he saw the film", "label": [[0, 2, "WHO"], [11, 15, "WHAT"]]}
    file = tagged(tmp_path, "jsonl", json.dumps(row) + "\n")
    predicted = [["B-WHO", "O", "O", "O"]]
    found = errors(tagging_report.sections(file, predicted, file.scores(predicted)))
    assert found["Worst errors"][0][4] == 1
    nouns = tagged(tmp_path, "txt", "he N\nsaw V\nher N\n")
    sections = tagging_report.sections(nouns, [["N", "N", "N"]], {})
    assert [section.title for section in sections] == ["Labels", "Confusion matrix", "Worst errors"]
    assert [cell.shown for cell in errors(sections)["Worst errors"][0][2:4]] == ["N V N", "N N N"]


@pytest.mark.parametrize("version_2", [False, True])
def test_errors_of_a_question_answerer(tmp_path, version_2):
    context = "he saw the big film"
    questions = [
        {"id": "a", "question": "what ?", "answers": [{"text": "big film", "answer_start": 11}]},
        {"id": "b", "question": "who ?", "answers": [{"text": "he", "answer_start": 0}]},
        {"id": "c", "question": "why ?", "answers": []},
    ]
    if version_2:
        questions = [q | {"is_impossible": not q["answers"]} for q in questions]
    data = [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": data}))
    dataset = squad_files.read(str(path))
    if not version_2:
        dataset = squad_files.Dataset(dataset.path, dataset.questions[:2])
    scores = {"exact": 50.0, "f1": 75.0, "HasAns_exact": 50.0, "HasAns_f1": 75.0}
    predictions = {"a": "film", "b": "he", "c": ""}
    found = errors(question_answering_report.sections(dataset, predictions, scores))
    assert [row[0] for row in found["Answers"]] == ["all", "with an answer"]
    (worst,) = found["Worst errors"]
    assert [getattr(cell, "shown", cell) for cell in worst] == [
        *("a", "what ?", context, "big film", "film", "66.7")
    ]
    assert question_answering_report.collapse(dataset, predictions) is None
    reason = question_answering_report.collapse(dataset, dict.fromkeys("abc", ""))
    assert reason.endswith("questions, of which 2 have an answer")
