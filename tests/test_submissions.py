"""Submission files, against the forms that the leaderboards publish."""

from pathlib import Path

import pytest

from bert_tf.data import glue
from bert_tf.data.submissions import submission

TINY = Path(__file__).parent / "tiny"


def examples(name, folder, split="test"):
    return glue.find(name).examples(str(TINY / folder), split)


def test_glue():
    file, text = submission("rte", "test", examples("rte", "RTE"), ["entailment"] * 4)
    assert file == "RTE.tsv"
    assert text.split("\n")[:3] == ["index\tprediction", "0\tentailment", "1\tentailment"]
    # MRPC's own guids count from the header, its leaderboard from the first row.
    assert submission("mrpc", "test", examples("mrpc", "MRPC"), ["1"] * 4)[1].split()[2:4] == [
        "0",
        "1",
    ]
    assert submission("mnli", "test_mismatched", [], [])[0] == "MNLI-mm.tsv"


def test_sts_b_stays_in_its_range():
    numbers = [-0.25, 5.25, 3.14159, 0.0]
    file, text = submission("sts-b", "test", examples("sts-b", "STS-B"), numbers)
    assert (file, text) == (
        "STS-B.tsv",
        "index\tprediction\n0\t0.000\n1\t5.000\n2\t3.142\n3\t0.000\n",
    )


def test_clue():
    file, text = submission("csl", "test", examples("csl", "CSL"), ["1", "0"])
    assert file == "csl_predict.json"
    assert text == '{"id": 2415, "label": "1"}\n{"id": 2416, "label": "0"}\n'
    file, text = submission("tnews", "test", examples("tnews", "TNEWS"), ["100", "116"])
    assert file == "tnews11_predict.json"
    assert text.split("\n")[1] == '{"id": 1, "label": "116", "label_desc": "news_game"}'


@pytest.mark.parametrize(("task", "split"), [("xnli", "test"), ("csv", "test"), ("mnli", "dev")])
def test_no_leaderboard(task, split):
    assert submission(task, split, [], []) is None
