"""Scores predictions for a file of questions, with the official scorers' values:

python -m bert_tf.data.squad score dev-v1.1.json predictions.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_tf import cli
from bert_tf.data import cmrc_scoring, squad_scoring
from bert_tf.data.squad_files import Dataset, is_number, read, read_json

SCORERS = ("squad1.1", "squad2.0", "cmrc2018")


def scorer_for(dataset: Dataset) -> str:
    """The name of the scorer that belongs to a file.

    SQuAD 2.0's if the file says which questions have no answer; CMRC2018's if most of the answers'
    letters are Chinese; else that of SQuAD 1.1.
    """
    if dataset.has_impossible:
        return "squad2.0"
    text = "".join(answer.text for question in dataset.questions for answer in question.answers)
    chinese = len(re.findall("[\u4e00-\u9fff]", text))
    return "cmrc2018" if 2 * chinese > len(text) else "squad1.1"


def scores(
    dataset: Dataset,
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    na_prob_thresh: float = 1.0,
    scorer: str | None = None,
    file: str = "",
) -> dict[str, Any]:
    """The official scorer's values by its names.

    Args:
      predictions: question id -> text.
      null_odds: for SQuAD 2.0, question id -> how much speaks for no answer.
      na_prob_thresh: above it a question counts as without an answer.
      scorer: one of `SCORERS`; the one that belongs to the file if None.
      file: where the predictions are from; CMRC2018's scorer says it.

    Raises: ValueError if questions are not answered as the scorer needs it.
    """
    scorer = scorer or scorer_for(dataset)
    if scorer == "cmrc2018":
        return cmrc_scoring.score(dataset.questions, predictions, file)
    if scorer == "squad1.1":
        return squad_scoring.squad_1_1(dataset.questions, predictions)
    if not any(question.answers for question in dataset.questions):
        for question in dataset.questions:  # the scorer takes all for questions without an answer
            if not question.is_impossible:
                squad_scoring.require_answers(question)
    return squad_scoring.squad_2_0(dataset.questions, predictions, null_odds, na_prob_thresh)


def score_files(
    dataset: Dataset,
    predictions_file: str,
    null_odds_file: str | None = None,
    na_prob_thresh: float = 1.0,
    scorer: str | None = None,
) -> str:
    """What the official scorer prints, JSON; see `scores`.

    Raises: ValueError naming the file that cannot be used.
    """
    scorer = scorer or scorer_for(dataset)
    if null_odds_file and scorer != "squad2.0":
        raise ValueError(f"--null_odds={null_odds_file} is for SQuAD 2.0, not for {scorer}")
    predictions = {
        qas_id: str(value) if is_number(value) else value
        for qas_id, value in _by_question(predictions_file, str, "text").items()
    }
    if not any(question.qas_id in predictions for question in dataset.questions):
        raise ValueError(f"{predictions_file}: none of its ids is a question of {dataset.path}")
    odds = _by_question(null_odds_file, float, "a number") if null_odds_file else None
    try:
        values = scores(dataset, predictions, odds, na_prob_thresh, scorer, predictions_file)
    except ValueError as error:
        raise ValueError(f"{dataset.path}: {error}") from error
    return json.dumps(values, indent=2 if scorer == "squad2.0" else None)


def _by_question(path: str, kind: type, what: str) -> Mapping[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object, question id -> {what}")
    for qas_id, value in values.items():
        fits = isinstance(value, kind) or is_number(value)  # text may be one, as in the files
        if not fits:
            raise ValueError(f"{path}: question {qas_id!r}: expected {what}, not {value!r:.40}")
    return values


@cli.command()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bert_tf.data.squad", description="Question-answering files."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("score", help="score predictions as the official scorers do")
    command.add_argument(
        "dataset",
        type=cli.path,
        help="SQuAD 1.1 or 2.0, XQuAD, CMRC2018 or DRCD, a file as published",
    )
    command.add_argument("predictions", type=cli.path, help="predictions.json: question id -> text")
    command.add_argument(
        "--null_odds", type=cli.path, help="null_odds.json: question id -> number; for SQuAD 2.0"
    )
    command.add_argument(
        "--na_prob_thresh",
        type=float,
        default=1.0,
        help="null odds above it count as no answer (default: %(default)s, the scorer's)",
    )
    command.add_argument(
        "--scorer",
        choices=SCORERS,
        help="default: squad2.0 if the file has is_impossible, cmrc2018 if the answers are Chinese",
    )
    given = parser.parse_args(arguments)
    try:
        output = score_files(
            read(given.dataset),
            given.predictions,
            given.null_odds,
            given.na_prob_thresh,
            given.scorer,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(output)


if __name__ == "__main__":
    main()
