"""Files of questions as published: read alike, and what is wrong in them is named."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from squad_golden import recorded_json, unpacked

from bert_tf.data.squad_files import Answer, Dataset, read

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Normans",
            "paragraphs": [
                {
                    "context": "Rollo came in 911.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "When?",
                            "answers": [{"text": "911", "answer_start": 14}],
                            "is_impossible": False,
                        },
                        {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
CMRC = [
    {
        "context_id": "DEV_0",
        "context_text": "《战国无双3》由光荣开发。光荣是公司。",
        "qas": [
            {"query_id": "DEV_0_QUERY_0", "query_text": "谁开发？", "answers": ["光荣", "由光荣"]},
            {"query_id": "DEV_0_QUERY_1", "query_text": "是谁？", "answers": ["任天堂"]},
        ],
        "title": "战国无双3",
    }
]


@pytest.fixture
def write(tmp_path):
    def written(content) -> str:
        path = tmp_path / "squad.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_squad(write):
    dataset = read(write(SQUAD))
    first, second = dataset.questions
    assert (first.qas_id, first.text, first.answers) == ("q1", "When?", (Answer("911", 14),))
    assert first.is_impossible is False and second.is_impossible is True
    assert first.passage is second.passage
    assert first.passage.article == "Normans"
    assert dataset.has_impossible and not dataset.misaligned()


def test_cmrc_in_its_own_form(write, caplog):
    first, second = read(write(CMRC)).questions
    assert first.answers == (Answer("光荣", 8), Answer("由光荣", 7))
    assert first.passage.article == "DEV_0"
    assert second.answers == (Answer("任天堂", -1),)
    assert "of 1 questions (the first: article 'DEV_0', question 'DEV_0_QUERY_1')" in caplog.text


@pytest.mark.parametrize("name", ["v1_input", "v2_input", "drcd", "xquad_zh", "xquad_th"])
def test_published_files(name, tmp_path):
    articles = recorded_json(name)["data"]
    qas = [qa for article in articles for p in article["paragraphs"] for qa in p["qas"]]
    dataset = read(unpacked(name, tmp_path))
    assert [q.qas_id for q in dataset.questions] == [qa["id"] for qa in qas]
    assert [[a.text for a in q.answers] for q in dataset.questions] == [
        [answer["text"] for answer in qa["answers"]] for qa in qas
    ]
    assert not dataset.misaligned()
    assert dataset.has_impossible == (name == "v2_input")


def test_misplaced_answers_are_counted(write, caplog):
    changed = copy.deepcopy(SQUAD)
    changed["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 13
    dataset = read(write(changed))
    assert [question.qas_id for question in dataset.misaligned()] == ["q1"]
    assert "of 1 questions (the first: article 'Normans', question 'q1')" in caplog.text


def without(*path):
    return lambda document: change(document, path, lambda parent, key: parent.pop(key))


def instead(value, *path):
    return lambda document: change(
        document, path, lambda parent, key: parent.__setitem__(key, value)
    )


def change(document, path, edit):
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    edit(parent, path[-1])
    return changed


PARAGRAPH = ("data", 0, "paragraphs", 0)
QA = (*PARAGRAPH, "qas", 0)


@pytest.mark.parametrize(
    "edit", [without(*QA, "answers"), instead(None, *QA, "answers"), instead([], *QA, "answers")]
)
def test_questions_without_answers(edit, write):
    """As in a file that is to be predicted."""
    first, second = read(write(edit(SQUAD))).questions
    assert first.answers == () == second.answers
    assert (first.qas_id, first.is_impossible, second.is_impossible) == ("q1", False, True)


def test_cmrc_without_answers(write):
    first, second = read(write(without(0, "qas", 0, "answers")(CMRC))).questions
    assert first.answers == () and second.answers == (Answer("任天堂", -1),)


def test_null_is_not_said(write):
    first, _ = read(write(instead(None, *QA, "is_impossible")(SQUAD))).questions
    assert first.is_impossible is None
    assert read(write(instead(None, "data", 0, "title")(SQUAD))).questions[0].passage.article == (
        "number 1"
    )


def test_numbers_are_read_as_text(write, caplog):
    changed = SQUAD
    places = [(*QA, "id"), (*QA, "question"), (*PARAGRAPH, "context"), ("data", 0, "title")]
    for number, place in enumerate(places, start=7):
        changed = instead(number, *place)(changed)
    changed = instead({"text": 9.5, "answer_start": 0}, *QA, "answers", 0)(changed)
    question, _ = read(write(changed)).questions
    assert (question.qas_id, question.text, question.passage.text) == ("7", "8", "9")
    assert (question.passage.article, question.answers) == ("10", (Answer("9.5", 0),))
    assert "numbers read as text: 4 (the first: article '10', 'context': 9)" in caplog.text


def test_numbers_among_cmrc_s_answers(write, caplog):
    """As in the development set that is published."""
    changed = instead("公司有1994人。", 0, "context_text")(CMRC)
    changed = instead([1994, "1994人", 1994], 0, "qas", 0, "answers")(changed)
    question, _ = read(write(changed)).questions
    assert question.answers == (Answer("1994", 3), Answer("1994人", 3), Answer("1994", 3))
    assert "numbers read as text: 2 (the first: passage number 1, context_id 'DEV_0'" in caplog.text
    with pytest.raises(ValueError, match="'answers' must be a list of texts, not .True"):
        read(write(instead([True], 0, "qas", 0, "answers")(CMRC)))


def test_a_list_of_articles(write):
    """SQuAD's "data" alone."""
    first, second = read(write(SQUAD["data"])).questions
    assert (first.qas_id, second.qas_id) == ("q1", "q2")


def flat(qas_id, *texts):
    """A question as the datasets library of Hugging Face has it."""
    context = "Rollo came in 911."
    answers = {"text": list(texts), "answer_start": list(map(context.index, texts))}
    row = {"id": qas_id, "title": "Normans", "context": context, "question": "When?"}
    return row | {"answers": answers}


@pytest.mark.parametrize("form", ["data", "list", "lines"])
def test_a_question_a_row(form, tmp_path):
    rows = [flat("q1", "911", "in 911"), flat("q2")]
    path = tmp_path / ("squad.jsonl" if form == "lines" else "squad.json")
    whole = {"data": rows} if form == "data" else rows
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines if form == "lines" else json.dumps(whole))
    first, second = read(str(path)).questions
    assert first.answers == (Answer("911", 14), Answer("in 911", 11))
    assert (first.is_impossible, second.answers, second.is_impossible) == (None, (), True)
    assert first.passage is second.passage and first.passage.article == "Normans"


def test_ids_that_are_there_twice(write, caplog):
    path = write(instead(1, *PARAGRAPH, "qas", 1, "id")(instead("1", *QA, "id")(SQUAD)))
    with pytest.raises(ValueError, match="question '1': there are two .* give each question its"):
        read(path)
    first, second = read(path, to_train=True).questions
    assert first.qas_id == second.qas_id == "1"
    assert "1 questions have the id of another one (the first: article 'Normans'" in caplog.text


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (without("data"), "'data' is missing, there is 'version'; expected SQuAD's form"),
        (instead(3, "data"), "'data' must be a list, not 3"),
        (instead([7], "data"), "expected an object, not 7"),
        (without(*PARAGRAPH, "context"), "article 'Normans': 'context' is missing"),
        (instead(None, *PARAGRAPH, "qas"), "article 'Normans': 'qas' must be a list, not None"),
        (without(*QA, "id"), "article 'Normans': 'id' is missing"),
        (without(*QA, "question"), "article 'Normans', question 'q1': 'question' is missing"),
        (instead("911", *QA, "answers"), "'answers' must be a list, not '911'"),
        (instead({"text": ["911"]}, *QA, "answers"), "'answers': 'answer_start' is missing"),
        (
            instead({"text": ["911"], "answer_start": []}, *QA, "answers"),
            "question 'q1', 'answers': 1 texts and 0 places",
        ),
        (instead([None], *QA, "answers"), "question 'q1': expected an object, not None"),
        (instead(True, *QA, "id"), "'id' must be text, not True"),
        (instead(float("nan"), *QA, "question"), "'question' must be text, not nan"),
        (instead("no", *QA, "is_impossible"), "'is_impossible' must be true or false, not 'no'"),
        (without(*QA, "answers", 0, "answer_start"), "question 'q1': 'answer_start' is missing"),
        (instead("4", *QA, "answers", 0, "answer_start"), "must be a whole number, not '4'"),
        (instead(True, *QA, "answers", 0, "answer_start"), "must be a whole number, not True"),
        (instead("\ud800", *QA, "question"), "'question' holds half of a surrogate pair"),
        (instead("q2", *QA, "id"), "question 'q2': there are two questions with this id"),
        (instead([], "data"), "no questions in this file"),
    ],
)
def test_what_is_wrong_is_named(edit, problem, write):
    path = write(edit(SQUAD))
    with pytest.raises(ValueError, match="squad.json: ") as raised:
        read(path)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"data":\n[}', "squad.json:2: not JSON"),
        ("", "squad.json:1: not JSON"),
        (
            '{"id": 1}\n{"id": 2}',
            "squad.json:2: .* if each line is a question, name the file .jsonl",
        ),
        ("[" * 100_000, "cannot be read"),
        ('{"data": ' + "9" * 5000 + "}", "cannot be read"),
    ],
)
def test_broken_json(text, problem, write):
    with pytest.raises(ValueError, match=problem):
        read(write(text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="none.json: cannot be read .* give the path of a JSON"):
        read(str(tmp_path / "none.json"))


def places(value, path=()):
    """The path of every value in a document."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    document=st.sampled_from([SQUAD, CMRC]),
    place=st.randoms(use_true_random=False),
    value=JSON,
)
def test_any_change_is_read_or_refused(document, place, value, tmp_path_factory):
    path = place.choice(list(places(document)))
    changed = instead(value, *path)(document) if path else value
    file = tmp_path_factory.mktemp("squad") / "squad.json"
    file.write_text(json.dumps(changed))
    try:
        dataset = read(str(file))
    except ValueError as error:
        assert str(error).startswith(str(file))
    else:
        assert isinstance(dataset, Dataset) and dataset.questions
