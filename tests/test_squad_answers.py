"""Answers from logits, against the files that Google's code wrote, and against its steps."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from squad_golden import ask, recorded_json, recorded_text

from bert_tf.data import squad_google
from bert_tf.data.squad_answers import AnswerSettings, extract, to_json
from bert_tf.data.squad_files import Answer
from bert_tf.data.squad_windows import FIRST_UNIQUE_ID, WindowSettings, build
from bert_tf.tokenization import BasicTokenizer

FILES = ("predictions", "nbest", "null_odds")


@pytest.fixture(scope="module")
def scored(recorded_squad):
    """The version, its windows, and the recorded logits, float64 [W, F]."""
    version, dataset, _, tokenizer, window_settings = recorded_squad
    windows = build(dataset.questions, tokenizer, window_settings)
    logits = recorded_json(f"{version}_logits")
    pairs = [logits[str(FIRST_UNIQUE_ID + number)] for number in range(len(windows))]
    return version, windows, *np.array(pairs).swapaxes(0, 1)


# By default no answer in the recorded files differs: none of the fixes applies to them.
@pytest.mark.parametrize("google_exact", [True, False])
def test_files_are_google_s(scored, google_exact):
    version, windows, start, end = scored
    is_v2 = version == "v2"
    answers = extract(
        windows,
        start,
        end,
        AnswerSettings(version_2_with_negative=is_v2, google_exact=google_exact),
    )
    for name in FILES[: 3 if is_v2 else 2]:
        assert to_json(getattr(answers, name)) == recorded_text(f"{version}_{name}")
    assert bool(answers.null_odds) == is_v2


def test_a_threshold_decides_between_the_best_answer_and_none(scored):
    version, windows, start, end = scored
    if version == "v1":
        return
    by_default = AnswerSettings(version_2_with_negative=True, null_score_diff_threshold=-5.0)
    answers = extract(windows, start, end, by_default)
    for qas_id, odds in answers.null_odds.items():
        best = next(entry["text"] for entry in answers.nbest[qas_id] if entry["text"])
        assert answers.best_texts[qas_id] == best
        assert answers.predictions[qas_id] == ("" if odds > -5.0 else best)
    assert set(answers.predictions.values()) & {""} and any(answers.predictions.values())


def answer_to(question, tokenizer, first, last, google_exact=False, **options):
    """The answers when the pieces first..last of the passage have the greatest logits."""
    windows = build([question], tokenizer, WindowSettings(max_seq_length=80, max_query_length=8))
    start, end = np.zeros((2, len(windows), 80))
    start[0, windows.offset(0) + first] = end[0, windows.offset(0) + last] = 9.0
    return extract(windows, start, end, AnswerSettings(google_exact=google_exact, **options))


# Passage, answer (its last occurrence), what Google's code makes of it.
FIXES = {
    "a zero-width space in the passage": (
        "甲队1919年\u200b成立。",
        "1919年",
        "甲队1919年\u200b成立。",
    ),
    "Hangul in the passage": ("甲队1919年成立(한국)。", "1919年", "甲队1919年成立(한국)。"),
    "an unknown piece": ("In 1919 x\U0001f600y won", "x\U0001f600y", "x\U0001f600y"),
    "an unknown piece in punctuation": ("(\U0001f600)", "\U0001f600", "(\U0001f600)"),
    "blanks in the answer": ("Oslo  is\nbig", "Oslo  is\nbig", "Oslo is big"),
    "the same letter in another case": ("Aa-a", "a", "A"),
}


@pytest.mark.parametrize("name", FIXES)
def test_answers_are_cut_by_characters(name, chinese_tokenizer):
    text, answer, google = FIXES[name]
    pieces = chinese_tokenizer.tokenize_with_offsets(text)
    at = text.rindex(answer)
    first = next(i for i, piece in enumerate(pieces) if piece.end > at)
    last = max(i for i, piece in enumerate(pieces) if piece.start < at + len(answer))
    question = ask(text)
    assert answer_to(question, chinese_tokenizer, first, last).predictions == {"q": answer}
    exact = answer_to(question, chinese_tokenizer, first, last, google_exact=True)
    assert exact.predictions == {"q": google}


def test_no_answer_but_none(chinese_tokenizer):
    # The greatest start comes after the greatest end: no span is left.
    options = {"version_2_with_negative": True, "n_best_size": 1}
    answers = answer_to(ask("Oslo is big"), chinese_tokenizer, 2, 0, **options)
    assert answers.predictions == {"q": ""} and answers.null_odds == {"q": 1000000.0}
    assert answers.best_texts == {"q": ""}
    assert [entry["text"] for entry in answers.nbest["q"]] == [""]
    with pytest.raises(ValueError, match="question 'q': .* where Google's program stops"):
        answer_to(ask("Oslo is big"), chinese_tokenizer, 2, 0, google_exact=True, **options)


@pytest.mark.parametrize("version_2", [False, True])
def test_a_passage_without_pieces(version_2, chinese_tokenizer):
    windows = build(
        [ask("\u200b"), ask("big", qas_id="r")],
        chinese_tokenizer,
        WindowSettings(80, max_query_length=8),
    )
    assert len(windows) == 1
    logits = np.zeros((1, 80), np.float32)
    settings = AnswerSettings(version_2_with_negative=version_2)
    answers = extract(windows, logits, logits, settings)
    assert answers.predictions == {"q": "" if version_2 else "empty", "r": "big"}


def test_positions_that_were_not_computed_change_nothing(chinese_tokenizer):
    windows = build([ask("Oslo is big")], chinese_tokenizer, WindowSettings(80, max_query_length=8))
    random = np.random.default_rng(0)
    short = random.normal(size=(2, 1, 16)).astype(np.float32)
    padded = np.pad(short, ((0, 0), (0, 0), (0, 64)), constant_values=-np.inf)
    settings = AnswerSettings(version_2_with_negative=True)
    assert extract(windows, *short, settings) == extract(windows, *padded, settings)


def test_what_cannot_be_used(chinese_tokenizer):
    windows = build([ask("Oslo is big")], chinese_tokenizer, WindowSettings(80, max_query_length=8))
    logits = np.zeros((1, 80))
    with pytest.raises(ValueError, match="do not fit 1 windows"):
        extract(windows, logits, np.zeros((2, 80)), AnswerSettings())
    with pytest.raises(ValueError, match="NaN or infinity"):
        extract(windows, logits * np.nan, logits, AnswerSettings())
    with pytest.raises(ValueError, match="--n_best_size=0 must be 1 or more"):
        AnswerSettings(n_best_size=0)


@given(st.data())
def test_candidates_are_google_s_with_many_equal_scores(google_squad, chinese_tokenizer, data):
    context = data.draw(st.text("ab中国 ,", min_size=1, max_size=60))
    question = ask(context)
    small = WindowSettings(24, doc_stride=5, max_query_length=4)
    windows = build([question], chinese_tokenizer, small)
    if not len(windows):
        return
    scores = st.lists(st.integers(-2, 2), min_size=24, max_size=24)
    rows = st.lists(scores, min_size=len(windows), max_size=len(windows))
    start, end = (np.array(data.draw(rows), float) for _ in range(2))
    answers = extract(windows, start, end, AnswerSettings(google_exact=True))
    if answers.predictions == {"q": "empty"}:
        return
    steps = google_squad.PlainSquad(chinese_tokenizer.vocab, small)
    first_character = next(i for i, c in enumerate(context) if c != " ")
    asked = dataclasses.replace(question, answers=(Answer("x", first_character),))
    logits = list(zip(start.tolist(), end.tolist(), strict=True))
    google = steps.answers(list(steps.rows([asked])), logits)
    ours = [(e["text"], e["start_logit"], e["end_logit"]) for e in answers.nbest["q"]]
    assert ours == google[0]


@settings(max_examples=300)
@given(st.text("aB ,é\u200b中\u0301", max_size=12), st.text("ab ,e中", max_size=4))
def test_final_text_is_google_s(google_squad, chinese_tokenizer, orig, pred):
    steps = google_squad.PlainSquad(chinese_tokenizer.vocab, WindowSettings())
    pred, orig = " ".join(pred.split()), " ".join(orig.split())
    if pred:
        expected = steps.final_text(pred, orig)
        assert squad_google.final_text(pred, orig, BasicTokenizer(True)) == expected


def test_json_is_escaped_and_indented():
    assert to_json({"q": "é"}) == '{\n    "q": "\\u00e9"\n}\n'
    assert json.loads(to_json({"q": [1.5]})) == {"q": [1.5]}


@pytest.mark.parametrize("verbose", [False, True])
def test_what_google_does_not_find_is_logged_on_request(verbose, caplog):
    with caplog.at_level("WARNING"):
        found = squad_google.final_text("cafe", "the book", BasicTokenizer(True), verbose)
    assert found == "the book"
    assert ("Unable to find text: 'cafe' in 'the book'" in caplog.text) == verbose
