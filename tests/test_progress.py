"""What a log file and a terminal get to see of a loop."""

import re
import sys

import pytest

from bert_tf import progress


def run(capsys):
    with progress.bar(total=200, desc="train", unit="step") as bar:
        for step in range(1, 201):
            bar.set_postfix(loss=f"{1 / step:.4f}", refresh=False)
            bar.update()
    return capsys.readouterr().err


def test_a_log_gets_nothing_of_a_short_loop(capsys):
    assert run(capsys) == ""


def test_a_log_gets_lines(capsys, monkeypatch):
    now = iter(range(10**6))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(now)))  # each call takes a second
    for number in (1, 2):
        lines = run(capsys).split("\n")
        assert lines.pop() == ""
        assert 3 <= len(lines) <= 200 * 5 // progress.SECONDS_BETWEEN_LINES, number
        shown = re.compile(
            r"train: (\d+) of 200 \[.*<.*, .*(step/s|s/step|\?step/s), loss=0\.\d{4}\]"
        )
        steps = [int(shown.fullmatch(line)[1]) for line in lines]
        assert steps == sorted(steps) and steps[-1] == 200


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    text = run(capsys)
    assert text.count("\r") >= 2 and text.endswith("\n") and text.count("\n") == 1
    assert "100%|" in text


@pytest.mark.parametrize("leave", [None, False, True])
def test_what_goes_over_rows_gives_them(leave):
    assert list(progress.bar(range(5), "eval", leave=leave)) == list(range(5))
