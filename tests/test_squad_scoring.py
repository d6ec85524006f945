"""The official scorers' values, and the command that prints them."""

import json
import os
from pathlib import Path

import pytest
from squad_golden import ask, unpacked

from bert_tf.data import cmrc_scoring, squad, squad_scoring
from bert_tf.data.squad_files import Answer, Dataset, read

ROOT = Path(__file__).parent.parent
# The whole development sets and Google's published predictions for them, 10 MB.
PUBLISHED = Path(os.environ.get("BERT_TF_SQUAD", ROOT.parent / "shared" / "data" / "squad"))


def printed(capsys, *arguments):
    squad.main(["score", *map(str, arguments)])
    return json.loads(capsys.readouterr().out)


# By the official evaluate-v1.1.py and evaluate-v2.0.py, for the published predictions of BERT.
SQUAD_1_1 = {"exact_match": 96.95121951219512, "f1": 98.397212543554}
SQUAD_2_0 = {
    "exact": 73.33333333333333,
    "f1": 76.00000000000001,
    "total": 90,
    "HasAns_exact": 56.09756097560975,
    "HasAns_f1": 61.951219512195124,
    "HasAns_total": 41,
    "NoAns_exact": 87.75510204081633,
    "NoAns_f1": 87.75510204081633,
    "NoAns_total": 49,
}


@pytest.mark.parametrize(("version", "expected"), [("v1", SQUAD_1_1), ("v2", SQUAD_2_0)])
def test_published_predictions(version, expected, tmp_path, capsys):
    dataset = unpacked(f"{version}_input", tmp_path)
    predictions = unpacked(f"published_{version}_predictions", tmp_path)
    found = printed(capsys, dataset, predictions)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-12)


def test_null_odds(tmp_path, capsys):
    # By evaluate-v2.0.py -n null_odds.json -t -10 of what Google's code made of random logits.
    files = [unpacked(f"v2_{name}", tmp_path) for name in ("input", "predictions", "null_odds")]
    found = printed(capsys, *files[:2], "--null_odds", files[2], "--na_prob_thresh=-10")
    assert found == pytest.approx(
        {
            "exact": 18.88888888888889,
            "f1": 20.654320987654323,
            "total": 90,
            "HasAns_exact": 0.0,
            "HasAns_f1": 3.8753387533875343,
            "HasAns_total": 41,
            "NoAns_exact": 34.69387755102041,
            "NoAns_f1": 34.69387755102041,
            "NoAns_total": 49,
            "best_exact": 54.44444444444444,
            "best_exact_thresh": 0.0,
            "best_f1": 54.44444444444444,
            "best_f1_thresh": 0.0,
        },
        abs=1e-12,
    )


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs $BERT_TF_SQUAD, SQuAD's whole dev sets")
def test_whole_development_sets(capsys):
    found = printed(
        capsys, PUBLISHED / "dev-v1.1.json", PUBLISHED / "dev-v1.1_BERT_ensemble_predictions.json"
    )
    assert {name: round(value, 5) for name, value in found.items()} == {
        "exact_match": 86.20624,
        "f1": 92.19558,
    }
    found = printed(
        capsys,
        PUBLISHED / "dev-v2.0.reconstructed.json",
        PUBLISHED / "dev-v2.0_BERT_single_predictions.json",
    )
    assert (round(found["exact"], 5), round(found["f1"], 5)) == (78.74168, 81.77528)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Quick, brown-fox!", "quick brownfox"),
        ("An a the", ""),
        ("theory of a\tb", "theory of b"),
        ("24–10", "24–10"),  # not ASCII punctuation
    ],
)
def test_normalized_answers(text, expected):
    assert squad_scoring.normalize(text) == expected


def test_f1_counts_words_as_often_as_both_have_them():
    assert squad_scoring.token_f1("a b b c", "b b b d") == pytest.approx(0.5)  # 2 of 4, 2 of 4
    assert squad_scoring.token_f1("x y", "y z z") == pytest.approx(2 * (1 / 3) * (1 / 2) / (5 / 6))
    assert squad_scoring.token_f1("a", "b") == 0.0


def test_the_best_of_several_answers_counts():
    question = ask("Oslo is big", Answer("big", 8), Answer("Oslo is", 0))
    scores = squad_scoring.squad_1_1([question], {"q": "the Oslo"})
    assert scores == {"exact_match": 0.0, "f1": pytest.approx(100 * 2 / 3)}


def test_missing_predictions(caplog):
    questions = [ask("Oslo", Answer("Oslo", 0), qas_id=name) for name in "ab"]
    scores = squad_scoring.squad_1_1(questions, {"b": "Oslo"})
    assert scores == {"exact_match": 50.0, "f1": 50.0}
    assert "1 of 2 questions have no prediction and score 0, the first is a" in caplog.text
    with pytest.raises(ValueError, match="question 'a': there is no prediction"):
        squad_scoring.squad_2_0(questions, {"b": "Oslo"})
    with pytest.raises(ValueError, match="question 'a': there are no null odds"):
        squad_scoring.squad_2_0(questions, {"a": "", "b": ""}, null_odds={"b": 0.0})
    with pytest.raises(ValueError, match="question 'q': there is no answer to compare with"):
        squad_scoring.squad_1_1([ask("Oslo")], {"q": "Oslo"})


def test_the_best_threshold():
    has_answer = {"a": True, "b": False, "c": True, "d": False}
    values = {"a": 1.0, "b": 0.0, "c": 0.5, "d": 0.0}
    predictions = {"a": "x", "b": "y", "c": "z", "d": "w"}
    odds = {"a": -3.0, "b": -2.0, "c": -2.5, "d": 4.0}
    # No answers at all give 2 of 4; with those up to -2.5, a and c: 3.5.
    best = squad_scoring.best_threshold(values, has_answer, predictions, odds)
    assert best == (87.5, -2.5)
    never = squad_scoring.best_threshold(values, has_answer, predictions, {"b": -9.0, "d": -8.0})
    assert never == (50.0, 0.0)


# By CMRC2018's own definition, by hand: segments, the longest run that both share.
@pytest.mark.parametrize(
    ("answer", "prediction", "exact", "f1"),
    [
        ("威廉·琼斯", "威廉琼斯", True, 1.0),  # the dot is no part of it
        ("《苏达尔摩》", "苏达尔摩", True, 1.0),
        ("19世纪晚期", "在19世纪", False, 2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5)),  # 19 世 纪
        ("NBA球队", "nba", False, 2 * 1 * (1 / 3) / (1 + 1 / 3)),
        ("f-16战机", "F16", False, 2 * 1 * (1 / 3) / (1 + 1 / 3)),
        ("甲乙丙丁", "甲乙丁", False, 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),  # 甲乙, not 甲乙丁
        ("甲", "乙", False, 0.0),
        ("。", "", True, 0.0),
    ],
)
def test_cmrc(answer, prediction, exact, f1):
    question = ask("x", Answer(answer, 0), qas_id=" q ")  # the scorer strips ids
    found = cmrc_scoring.score([question], {"q": prediction}, "p.json")
    assert list(found) == ["AVERAGE", "F1", "EM", "TOTAL", "SKIP", "FILE"]
    assert list(found.values()) == [
        f"{(100 * f1 + 100 * exact) / 2:.3f}",
        f"{100 * f1:.3f}",
        f"{100 * exact:.3f}",
        *(1, 0, "p.json"),
    ]


def test_numbers_are_text(tmp_path, capsys):
    """In answers and predictions, as the scorer makes text of both."""
    qas = [
        {"query_id": f"Q{n}", "query_text": "几年？", "answers": answers}
        for n, answers in enumerate([[1994], [1994, "1995年"], ["一九九四年"]])
    ]
    text = "公司在1994年开业，1995年关门。"
    dataset, predictions = tmp_path / "dev.json", tmp_path / "predictions.json"
    dataset.write_text(json.dumps([{"context_id": "C", "context_text": text, "qas": qas}]))
    predictions.write_text(json.dumps({"Q0": "1994", "Q1": 1995, "Q2": "1994年"}))
    found = printed(capsys, dataset, predictions, "--scorer=cmrc2018")
    # Of 1995 and 年 one is right; of the five of 一九九四年 and the two of 1994年, one.
    f1 = 1 + 2 * 1 * (1 / 2) / (3 / 2) + 2 * (1 / 2) * (1 / 5) / (1 / 2 + 1 / 5)
    assert (found["EM"], found["F1"]) == (f"{100 / 3:.3f}", f"{100 * f1 / 3:.3f}")


def test_a_file_without_answers_is_not_scored():
    questions = [ask("Oslo", is_impossible=True, qas_id="a"), ask("Oslo", is_impossible=False)]
    for scorer in squad.SCORERS:
        with pytest.raises(ValueError, match="there is no answer to compare with; give a file"):
            squad.scores(Dataset("f", questions[1:]), {"q": ""}, scorer=scorer)
    with pytest.raises(ValueError, match="question 'q': there is no answer to compare with"):
        squad.scores(Dataset("f", questions), {"a": "", "q": ""})
    assert squad.scores(Dataset("f", questions[:1]), {"a": ""})["exact"] == 100.0


def test_words_between_chinese_are_nltk_s():
    pytest.importorskip("nltk")
    assert cmrc_scoring.segments("约$1,234.5(美元)。don't") == [
        *("约", "$", "1,234.5", "(", "美", "元", ")", "do", "n't")
    ]
    assert cmrc_scoring.segments("cannot") == ["can", "not"]


def test_the_scorer_that_belongs_to_a_file(tmp_path):
    names = {"v1_input": "squad1.1", "v2_input": "squad2.0", "drcd": "cmrc2018"}
    names |= {"xquad_zh": "cmrc2018", "xquad_th": "squad1.1"}
    found = {name: squad.scorer_for(read(unpacked(name, tmp_path))) for name in names}
    assert found == names


def test_drcd(tmp_path, capsys):
    dataset = unpacked("drcd", tmp_path)
    questions = read(dataset).questions
    predictions = {q.qas_id: q.answers[0].text for q in questions[:6]}
    # Shares 体 with the answer 瓦德体, and nothing with 1991年; the last question is left out.
    predictions |= {q.qas_id: "兰札体" for q in questions[6:8]}
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(predictions))
    found = printed(capsys, dataset, path)
    f1 = 100 * (6 + 1 / 3) / 9
    assert found["EM"] == f"{600 / 9:.3f}" and found["F1"] == f"{f1:.3f}"
    assert (found["TOTAL"], found["SKIP"]) == (9, 1)
    english = printed(capsys, dataset, path, "--scorer=squad1.1")
    assert english == {"exact_match": 100 * 6 / 9, "f1": 100 * 6 / 9}


@pytest.mark.parametrize(
    ("content", "more", "problem"),
    [
        ("[]", (), "predictions.json: expected an object, question id -> text"),
        ('{"q": true}', (), "predictions.json: question 'q': expected text, not True"),
        ('{"q": ["x"]}', (), "predictions.json: question 'q': expected text, not ['x']"),
        ('{"q": "x"}', (), "predictions.json: none of its ids is a question of"),
        ("{", (), "predictions.json:1: not JSON"),
        ('{"56be4db0acb8001400a502ec": "x"}', ("--scorer=squad2.0",), "v1_input.json: article '"),
        ('{"q": "x"}', ("--null_odds=n.json",), "--null_odds=n.json is for SQuAD 2.0, not for"),
    ],
)
def test_files_that_cannot_be_scored(content, more, problem, tmp_path):
    dataset = unpacked("v1_input", tmp_path)
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match="error: ") as raised:
        squad.main(["score", dataset, str(path), *more])
    assert problem in str(raised.value)
