"""The model's card: what it must say, and that nothing in it is made up."""

import json
import re
import subprocess

import exporting
import pytest

from bert_tf.export import card

SIGNATURE = card.Signature(
    "text",
    "serving_default",
    "predict",
    {"text_b": "string [?]", "text_a": "string [?]"},
    {"probabilities": "float32 [?, 2]"},
    '{"inputs": {"text_a": ["a|b"]}}',
)
CONFIG = {"hidden_size": 16, "max_position_embeddings": 32}


def make(**changes):
    values = {
        "task_type": "classification",
        "use": "Gives a text one label.",
        "labels": ["no", "中立", "a|b`\n"],
        "max_seq_length": 24,
        "reads_whole_texts": False,
        "config": CONFIG,
        "do_lower_case": True,
        "signatures": [SIGNATURE],
        "run": card.Run(),
    }
    return card.text(card.Card(**values | changes))


def section(text, name):
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def test_numbers_are_named_in_words():
    train = {"labels": {"ham": 96}, "truncated_percent": 1.5, "several_answers": 134}
    metrics = {
        "data": {"train": train, "warnings": ["a", "b"]},
        "bad_rows": {"test": 2},
        "eval_mismatched": {"accuracy": 0.5},
        "collapsed": None,
        "results": {"predictions.tsv": {"files": ["/home/me/test.tsv"], "sha256": "ab"}},
    }
    assert section(make(run=card.Run(metrics=metrics)), "Metrics").splitlines()[5:-1] == [
        "| training: examples labelled ham | 96 |",
        "| training: truncated examples, percent | 1.5 |",
        "| training: questions of whose answers the first is used | 134 |",
        "| warnings about the data | a; b |",
        "| test set: bad rows left out | 2 |",
        "| development set mismatched: accuracy | 0.5 |",
    ]


def test_a_card_with_a_run(tmp_path):
    exporting.write_run(tmp_path)
    text = make(run=card.read_run(str(tmp_path)))
    assert text.startswith(
        "# mnli: a fine-tuned BERT\n\nTask: classification. Gives a text one label.\n"
    )
    assert f"| the training data | {'ab' * 32} |" in section(text, "Data")
    assert section(text, "Metrics").splitlines()[3:] == [
        "| what | value |",
        "| --- | --- |",
        "| task name | mnli |",
        "| development set: examples | 40 |",
        "| development set: accuracy | 0.975 |",
        "",
    ]
    made = section(text, "How it was made")
    assert "Trained with bert_tf 0.1.0, tensorflow 2.21.0." in made
    # Flags that were left out are not shown as "None".
    assert "```\n--task_name=mnli\n--learning_rate=5e-05\n```" in made
    assert '"hidden_size": 16' in made


def test_what_is_not_known_is_said(tmp_path):
    text = make(run=card.read_run(str(tmp_path)), labels=[], task_type="regression")
    assert text.startswith("# regression: a fine-tuned BERT")
    assert "what they were trained on is not known" in section(text, "Data")
    assert "None was found" in section(text, "Metrics")
    assert "## Labels" not in text and "Trained with" not in text
    assert make(run=card.read_run(None), labels=[], task_type="regression") == text


def test_labels_and_limits():
    text = make()
    (labels,) = re.findall(r"```\n(.*)\n```", section(text, "Labels"))
    assert json.loads(labels) == ["no", "中立", "a|b`\n"]
    limits = section(text, "Intended use and limits")
    assert "lower-cased" in limits and "24 word pieces" in limits and "up to 32" in limits
    cased = section(make(do_lower_case=False), "Intended use and limits")
    assert "read with its case" in cased and "lower-cased" not in cased


def test_signatures_and_their_requests():
    text = section(make(), "Signatures")
    row = "| text | serving_default | predict | text_a: string [?], text_b: string [?] | "
    assert row + "probabilities: float32 [?, 2] |" in text
    assert "`POST /v1/models/MODEL:predict`, `serving_default` of text:" in text
    assert SIGNATURE.request in text


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
def test_damaged_notes_of_a_run_are_named(tmp_path, name):
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is not valid JSON"):
        card.read_run(str(tmp_path))


def test_git_revision(monkeypatch, tmp_path):
    """Of the source tree that the package lies in, not of any repository around an installation."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    module = tmp_path / "bert_tf" / "export" / "card.py"
    monkeypatch.setattr(card, "__file__", str(module))
    assert card.git_revision() is None  # no commit yet
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "m"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert card.git_revision() == head.stdout.strip()
    assert f"git revision {head.stdout.strip()}." in make()
    installed = tmp_path / ".venv" / "site-packages" / "bert_tf" / "export" / "card.py"
    monkeypatch.setattr(card, "__file__", str(installed))
    assert card.git_revision() is None
