"""Rows of questions and passages, against those that Google's code made, and by definition."""

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from squad_golden import ask

from bert_tf.data import records, squad_google
from bert_tf.data.squad_files import Answer, Dataset, Passage, Question
from bert_tf.data.squad_training import TrainingCounts, training_windows
from bert_tf.data.squad_windows import (
    PassagePieces,
    WindowSettings,
    build,
    max_context,
    window_bounds,
)
from bert_tf.tokenization import FullTokenizer


def with_first_answers(dataset):
    """Google's code wants exactly one answer to train on."""
    questions = [dataclasses.replace(q, answers=q.answers[:1]) for q in dataset.questions]
    return Dataset(dataset.path, questions)


def as_recorded(windows):
    """The windows in the form of the recorded features."""
    rows = windows.rows()
    for question in range(len(windows.questions)):
        offset = windows.offset(question)
        words = windows.passages[question].words.of_piece
        contexts = windows.max_context(question)
        for index, (first, length) in enumerate(windows.bounds(question)):
            row = next(rows)
            used = sum(row["input_mask"])
            assert row["input_mask"] == [1] * used + [0] * (len(row["input_ids"]) - used)
            assert not any(row["input_ids"][used:]) and not any(row["segment_ids"][used:])
            positions = range(offset, offset + length)
            yield {
                "unique_id": row["unique_ids"][0],
                "example_index": question,
                "doc_span_index": index,
                "input_ids": row["input_ids"][:used],
                "segment_ids": row["segment_ids"][:used],
                "token_to_orig_map": {str(at): int(words[at - offset + first]) for at in positions},
                "token_is_max_context": {
                    str(at): bool(contexts[index][at - offset]) for at in positions
                },
                "start_position": row.get("start_positions", [None])[0],
                "end_position": row.get("end_positions", [None])[0],
                "is_impossible": bool(row.get("is_impossible", [False])[0]),
            }
    assert next(rows, None) is None


def test_rows_to_predict_are_google_s(recorded_squad):
    _, dataset, features, tokenizer, settings = recorded_squad
    found = list(as_recorded(build(dataset.questions, tokenizer, settings)))
    assert found == features["predict"]


def test_rows_to_train_are_google_s(recorded_squad):
    version, dataset, features, tokenizer, settings = recorded_squad
    exact = dataclasses.replace(settings, google_exact=True)
    windows, counts = training_windows(
        with_first_answers(dataset), tokenizer, exact, version == "v2", shuffle=False
    )
    assert list(as_recorded(windows)) == features["train"]
    impossible = sum(q.is_impossible or False for q in dataset.questions)
    assert counts == TrainingCounts(used=len(dataset.questions), impossible=impossible)


# The recorded rows whose labels differ when made by characters: question, its answer, the pieces
# labelled, and those that Google's code labels. Each answer is a part of a word whose pieces are
# not those of the answer by itself; Google's code then takes all words that it touches.
PARTS_OF_WORDS = {
    ("56be4db0acb8001400a502f0", "gold", "golden", '" golden'),
    ("56be4e1facb8001400a502f9", "8", "18", "20 – 18"),
    ("56bf159b3aeaaa14008c950a", "4", "49", "49 – 15"),
    ("56d2045de7d4791d009025f5", "2", "12", "12 – 4"),
}


def test_labels_by_characters_change_only_parts_of_words(recorded_squad):
    version, dataset, features, tokenizer, settings = recorded_squad
    windows, counts = training_windows(dataset, tokenizer, settings, version == "v2", False)
    assert counts.several_answers == sum(len(q.answers) > 1 for q in dataset.questions)
    changed = set()
    for ours, google in zip(as_recorded(windows), features["train"], strict=True):
        spans = [(row["start_position"], row["end_position"] + 1) for row in (ours, google)]
        if spans[0] != spans[1]:
            question = dataset.questions[ours["example_index"]]
            tokens = tokenizer.convert_ids_to_tokens(ours["input_ids"])
            texts = [" ".join(tokens[slice(*span)]) for span in spans]
            changed.add((question.qas_id, question.answers[0].text, *texts))
        names = ("start_position", "end_position")
        assert {**ours, **dict.fromkeys(names)} == {**google, **dict.fromkeys(names)}
    assert changed == (PARTS_OF_WORDS if version == "v1" else set())


def train(question, tokenizer, google_exact=False, version_2=False):
    settings = WindowSettings(max_seq_length=64, max_query_length=8, google_exact=google_exact)
    return training_windows(Dataset("f", [question]), tokenizer, settings, version_2)


def labelled_pieces(windows, row=0):
    (question,) = windows.passages
    first, last = windows.positions[row] - windows.offset(0)
    return first, last, question.text[question.starts[first] : question.ends[last]]


def test_the_annotated_occurrence_is_labelled(chinese_tokenizer):
    text = "甲队1919年成立，乙队也在1919年成立。"
    question = ask(text, Answer("1919年", text.rindex("1919年")))
    windows, _ = train(question, chinese_tokenizer)
    assert labelled_pieces(windows) == (11, 12, "1919年")
    windows, _ = train(question, chinese_tokenizer, google_exact=True)
    assert labelled_pieces(windows) == (2, 3, "1919年")  # the first one


def test_an_answer_beside_its_place_is_moved_to_the_nearest(chinese_tokenizer, caplog):
    text = "甲队1919年成立，乙队也在1919 年成立。"
    windows, counts = train(ask(text, Answer("1919年", 10)), chinese_tokenizer)
    assert (counts.moved, labelled_pieces(windows)[2]) == (1, "1919年")
    windows, counts = train(ask(text, Answer("1919 年", 10)), chinese_tokenizer)
    assert (counts.moved, labelled_pieces(windows)[2]) == (1, "1919 年")
    assert "answer moved from" in caplog.text


@pytest.mark.parametrize(
    ("context", "answer", "google_exact"),
    [
        ("Oslo is big.", Answer("Rome", 3), False),
        ("Oslo is big.", Answer("Rome", 3), True),
        ("Oslo is big.", Answer("", 2), False),  # for which Google's code takes the word there
        ("Oslo\u200b is big.", Answer("\u200b", 4), False),  # a character without a piece
        ("Paris.", Answer("Oslo", 90), False),
        ("Paris.", Answer("Oslo", 90), True),  # where Google's code stops with an IndexError
        ("", Answer("Oslo", 0), True),
    ],
)
def test_answers_that_the_passage_lacks_are_dropped(
    context, answer, google_exact, chinese_tokenizer, caplog
):
    questions = [ask("Oslo is big.", Answer("Oslo", 0)), ask(context, answer)]
    settings = WindowSettings(max_seq_length=64, max_query_length=8, google_exact=google_exact)
    windows, counts = training_windows(Dataset("f", questions), chinese_tokenizer, settings)
    assert (counts.used, counts.dropped) == (1, 1) and len(windows) == 1
    assert "could not find answer" in caplog.text
    with pytest.raises(ValueError, match="f: no question can be trained on"):
        training_windows(Dataset("f", questions[1:]), chinese_tokenizer, settings)


def test_several_answers_or_none(chinese_tokenizer):
    two = ask("Oslo is big.", Answer("Oslo", 0), Answer("big", 8))
    windows, counts = train(two, chinese_tokenizer)
    assert str(counts) == (
        "1 questions to train on, 1 have several answers, of which the first is used"
    )
    assert counts.several_answers == 1 and labelled_pieces(windows)[2] == "Oslo"
    with pytest.raises(ValueError, match="question 'q': .* exactly 1 answer, not 2"):
        train(two, chinese_tokenizer, google_exact=True)
    none = ask("Oslo is big.", is_impossible=True)
    with pytest.raises(ValueError, match="each question needs .*--version_2_with_negative=true"):
        train(none, chinese_tokenizer)
    windows, counts = train(none, chinese_tokenizer, version_2=True)
    assert counts.impossible == 1 and windows.positions.tolist() == [[0, 0]]
    assert [row["is_impossible"] for row in windows.rows()] == [[1]]


def test_windows_without_the_whole_answer_stay(chinese_tokenizer, caplog):
    text = "一二三四五六七八九十" * 12
    windows, _ = train(ask(text, Answer(text[58:62], 58)), chinese_tokenizer)
    assert len(windows) == 2
    assert windows.positions.tolist() == [[0, 0], [0, 0]]  # of 60 pieces, cut through the answer
    assert "f: no window holds the whole answer to 1 questions (the first: " in caplog.text
    caplog.clear()
    train(ask(text, Answer(text[:4], 0)), chinese_tokenizer)  # in the first of two windows
    assert not caplog.text
    assert [row["is_impossible"] for row in windows.rows()] == [[0], [0]]


def test_questions_that_are_cut_are_counted(chinese_tokenizer, caplog):
    questions = [ask("一二三", question=text) for text in ("一" * 8, "一" * 9)]
    windows = build(questions, chinese_tokenizer, WindowSettings(64, 8, 8))
    assert [len(query) for query in windows.queries] == [8, 8]
    assert "1 of 2 questions are longer than --max_query_length=8 pieces" in caplog.text


def test_questions_are_shuffled_once_as_google_does(recorded_squad):
    _, dataset, _, tokenizer, settings = recorded_squad
    expected = [question.qas_id for question in dataset.questions]
    random.Random(12345).shuffle(expected)
    first, _ = training_windows(dataset, tokenizer, settings, dataset.has_impossible)
    assert [question.qas_id for question in first.questions] == expected


def test_a_passage_is_tokenized_once(chinese_tokenizer):
    class Counting(FullTokenizer):
        calls = 0

        def encode_with_offsets(self, text):
            self.calls += 1
            return super().encode_with_offsets(text)

    tokenizer = Counting(chinese_tokenizer.vocab_file)
    passage = Passage("a", "Oslo is big.")
    questions = [Question(f"q{i}", "?", passage, (), None) for i in range(5)]
    build(questions, tokenizer, WindowSettings())
    assert tokenizer.calls == 1


@settings(max_examples=50)
@given(st.integers(0, 90), st.integers(1, 40), st.integers(1, 50))
def test_windows_cover_the_passage_and_one_is_of_maximal_context(google_squad, total, room, stride):
    bounds = window_bounds(total, room, stride)
    contexts = max_context(total, room, stride)
    steps = google_squad.PlainSquad({}, WindowSettings(doc_stride=stride))
    assert list(bounds) == steps.spans(total, room)
    covered = np.zeros(total, int)
    for index, ((start, length), context) in enumerate(zip(bounds, contexts, strict=True)):
        assert 0 < length <= room
        covered[start : start + length] += context
        expected = [steps.is_max_context(bounds, index, p) for p in range(start, start + length)]
        assert context.tolist() == expected
    assert (covered == 1).all()


TEXT = st.text("ab ,é\u200b中国1\u202f\n", max_size=40)


@given(TEXT, TEXT, st.data())
def test_rows_equal_google_s_steps(google_squad, chinese_tokenizer, context, question, data):
    if not context.strip():
        return
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    answer = Answer(context[start:end], start)
    asked = Question("q", question, Passage("a", context), (answer,), None)
    small = WindowSettings(16, doc_stride=3, max_query_length=6, google_exact=True)
    steps = google_squad.PlainSquad(chinese_tokenizer.vocab, small)
    pieces = PassagePieces(context, chinese_tokenizer)
    if squad_google.label(pieces, answer, chinese_tokenizer) is None:
        return
    windows, _ = training_windows(Dataset("f", [asked]), chinese_tokenizer, small)
    assert list(windows.rows()) == [row["features"] for row in steps.rows([asked])]


def test_a_long_passage_without_spaces_is_quick(chinese_tokenizer):
    # Google's search of the answer is cubic in the word, which is the passage here.
    text = "甲乙丙丁" * 2000 + "戊"
    for google_exact in (False, True):
        windows, _ = train(ask(text, Answer("戊", len(text) - 1)), chinese_tokenizer, google_exact)
        assert windows.positions.any(axis=1).sum() == 1


def test_records_hold_google_s_features(recorded_squad, tmp_path):
    version, dataset, features, tokenizer, settings = recorded_squad
    windows, _ = training_windows(dataset, tokenizer, settings, version == "v2", shuffle=False)
    path = str(tmp_path / "train.tf_record")
    spec = records.span_spec(settings.max_seq_length, is_training=True)
    assert records.write(path, windows.rows(), spec) == len(features["train"])
    example = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(path))).numpy())
    values = {name: list(f.int64_list.value) for name, f in example.features.feature.items()}
    assert values == next(windows.rows())
    batch = records.RecordFile(path, spec).batch([0, 1])
    assert batch["unique_ids"].tolist() == [[1000000000], [1000000001]]
    assert batch["start_positions"].tolist() == windows.positions[:2, :1].tolist()
    predict = build(dataset.questions, tokenizer, settings)
    assert set(next(predict.rows())) == set(records.span_spec(8, is_training=False))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_seq_length": 67}, "--max_seq_length=67 must be greater than --max_query_length=64"),
        ({"doc_stride": 0}, "--doc_stride=0 must be 1 or more"),
    ],
)
def test_settings_that_do_not_fit(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        WindowSettings(**arguments)
