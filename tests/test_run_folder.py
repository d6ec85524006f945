"""Whose output_dir it is: one run at a time, and all that is needed to make its result again."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bert_tf import run_folder
from bert_tf.run_config import RunConfig

ROOT = Path(__file__).parent.parent


def claim(folder, started=False, data=b"a\n", **flags):
    (folder / "data.txt").write_bytes(data)
    config = RunConfig(output_dir=str(folder), **flags)
    files = {"the training data": [str(folder / "data.txt")]}
    run_folder.claim(config, {"hidden_size": 8}, files, started)
    return json.loads((folder / "run.json").read_text("utf-8"))


def test_run_json_says_how_the_result_was_made(tmp_path):
    run = claim(tmp_path, random_seed=7, save_checkpoints_steps=5)
    assert run["flags"]["random_seed"] == 7
    # Every flag is there once: those that training depends on, and the others.
    assert "save_checkpoints_steps" not in run["flags"]
    assert run["other_flags"]["save_checkpoints_steps"] == 5
    assert not run["flags"].keys() & run["other_flags"].keys()
    sha = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"
    assert run["data_sha256"] == {"the training data": sha}
    assert {"bert_tf", "tensorflow", "keras", "numpy", "python"} == run["versions"].keys()
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    if git.returncode == 0:
        assert run["git_revision"].startswith(git.stdout.strip())


def test_each_start_has_its_times(tmp_path):
    claim(tmp_path)  # and is killed
    claim(tmp_path, started=True)
    run_folder.note_end(str(tmp_path), 3, 8)
    run = claim(tmp_path, started=True, save_checkpoints_steps=9)
    assert run["other_flags"]["save_checkpoints_steps"] == 9
    killed, ended, begun = run["times"]
    assert set(killed) == set(begun) == {"started", "host"}
    assert (ended["first_step"], ended["last_step"]) == (3, 8)
    assert killed["started"] <= ended["started"] <= ended["ended"] <= begun["started"]


def test_another_runs_folder_is_left_alone(tmp_path):
    before = claim(tmp_path)
    with pytest.raises(ValueError, match="--random_seed: 12345 then, 1 now"):
        claim(tmp_path, started=True, random_seed=1)
    with pytest.raises(ValueError, match="the contents of the training data have changed"):
        claim(tmp_path, started=True, data=b"b\n")
    assert json.loads((tmp_path / "run.json").read_text("utf-8")) == before


HOLD = """
import sys
from bert_tf import run_folder
with run_folder.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_of_two_runs_refuses(tmp_path):
    """Until the first has ended, in whatever way."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    first = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
    try:
        assert first.stdout.readline() == "held\n"
        message = rf"--output_dir={tmp_path} is in use by another run \(process {first.pid} on"
        with pytest.raises(ValueError, match=message), run_folder.locked(str(tmp_path)):
            pass
    finally:
        first.kill()
        first.communicate()
    with run_folder.locked(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    with run_folder.locked(str(tmp_path)):
        pass


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level("WARNING", logger="absl"), run_folder.locked(str(tmp_path)):
        pass
    assert "cannot be locked" in caplog.text and "No locks available" in caplog.text


def test_a_result_of_another_file_is_kept_under_a_name_of_its_own(tmp_path, capsys):
    output, result = tmp_path / "run", tmp_path / "run/predictions.tsv"
    output.mkdir()
    result.write_text("of an older version\n")
    for number, data in enumerate(("a", "a", "b", "c", "b")):
        (tmp_path / f"{number}.csv").write_text(data)
        read = [str(tmp_path / f"{number}.csv")]
        sha256 = run_folder.fingerprint(read)
        run_folder.claim_result(str(output), result.name, read, sha256)
        result.write_text(f"{data} {number}\n")
    notes = json.loads((output / "metrics.json").read_text())["results"]
    # The same contents under another name are the same file.
    found = {notes[path.name]["files"][0]: path.read_text() for path in output.glob("*.tsv")}
    expected = {1: "a 1\n", 3: "c 3\n", 4: "b 4\n"}
    assert found.keys() >= {str(tmp_path / f"{number}.csv") for number in expected}
    for number, text in expected.items():
        assert found[str(tmp_path / f"{number}.csv")] == text
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith("predictions.tsv is replaced; what it was made from is not known.")
    assert len(others) == 3 and all("it is kept as predictions-" in line for line in others)


def test_a_report_without_evaluation_is_replaced_by_that_with_one(tmp_path, capsys):
    (tmp_path / "dev.csv").write_text("a")
    for read in ([], [str(tmp_path / "dev.csv")]):
        run_folder.claim_result(str(tmp_path), "report.html", read, run_folder.fingerprint(read))
        (tmp_path / "report.html").write_text(str(read))
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.glob("*.html")] == ["report.html"]
