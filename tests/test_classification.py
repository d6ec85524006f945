"""The classifier as people use it: one command on files, and what it leaves behind."""

import csv
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exporting import check_no_rows

from bert_tf import checkpoints, training
from bert_tf.data import glue
from bert_tf.reporting.events import read_scalars
from bert_tf.tasks import classification, seeds
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.evaluated import Evaluated, collapse

TINY = Path(__file__).parent / "tiny"
FILES = {
    "bert_config_file": str(TINY / "bert_config.json"),
    "vocab_file": str(TINY / "vocab.txt"),
}


def config(output_dir, **changes):
    values = {
        "task_name": "mnli",
        "data_dir": str(TINY / "MNLI"),
        "output_dir": str(output_dir),
        "max_seq_length": 24,
        "train_batch_size": 2,
        "num_train_epochs": 2,
        **FILES,
    }
    return ClassificationConfig(**values | changes)


def rows_of(table):
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, "excel-tab"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One whole run on three-way pairs: train, evaluate, predict, export."""
    folder = tmp_path_factory.mktemp("mnli")
    run = config(
        folder, do_train=True, do_eval=True, do_predict=True, export_dir=str(folder / "export")
    )
    return run, classification.run(run), folder


def test_google_files(trained):
    run, result, folder = trained
    lines = Path(result["eval_results"]).read_text().splitlines()
    values = dict(line.split(" = ") for line in lines)
    assert list(values) == ["eval_accuracy", "eval_loss", "global_step", "loss"]
    assert int(values["global_step"]) == result["metrics"]["train"]["steps"]
    rows = Path(result["test_results"]).read_text().splitlines()
    probabilities = np.array([[float(cell) for cell in row.split("\t")] for row in rows])
    assert probabilities.shape[1] == 3
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    # Written as str(float32): every number is read back as the same float32, in few digits.
    assert all(str(np.float32(cell)) == cell for row in rows for cell in row.split("\t"))
    for name in ("train", "eval", "predict"):
        assert (folder / f"{name}.tf_record").exists()


def test_eval_loss_is_the_mean_cross_entropy(trained, tmp_path, capsys):
    """Against the probabilities that prediction writes for the same rows.

    They are of another test file than the run's own predictions, which are kept.
    """
    run, result, folder = trained
    data = tmp_path / "data"
    shutil.copytree(TINY / "MNLI", data)
    shutil.copy(data / "dev_matched.tsv", data / "test_matched.tsv")
    shutil.copytree(folder, tmp_path / "run")
    again = config(tmp_path / "run", data_dir=str(data), do_eval=True, do_predict=True)
    result = classification.run(again)
    rows = Path(result["test_results"]).read_text().splitlines()
    probabilities = np.array([[float(cell) for cell in row.split("\t")] for row in rows])
    dev = (data / "dev_matched.tsv").read_text().splitlines()[1:]
    labels = ["contradiction", "entailment", "neutral"]
    expected = np.array([labels.index(row.split("\t")[-1]) for row in dev])
    of_files = result["metrics"]["results"]
    assert of_files["predictions.tsv"]["files"] == [str(data / "test_matched.tsv")]
    (kept,) = (name for name in of_files if name.startswith("predictions-"))
    before = trained[1]["predictions"]
    assert (tmp_path / "run" / kept).read_bytes() == Path(before).read_bytes()
    assert of_files[kept]["files"] == [str(TINY / "MNLI/test_matched.tsv")]
    assert f"it is kept as {kept}" in capsys.readouterr().out
    scores = result["metrics"]["eval"]
    loss = -np.log(probabilities[np.arange(len(expected)), expected]).mean()
    assert scores["eval_loss"] == pytest.approx(loss, abs=1e-5)
    assert scores["accuracy"] == pytest.approx((probabilities.argmax(1) == expected).mean())


def test_predictions_name_their_rows(trained):
    _, result, _ = trained
    header, *rows = rows_of(result["predictions"])
    labels = ["contradiction", "entailment", "neutral"]
    probability = [f"probability_{label}" for label in labels]
    assert header == ["id", "label", *probability, "text_a", "text_b"]
    examples = glue.find("mnli").examples(str(TINY / "MNLI"), "test")
    for (guid, label, *probabilities, text_a, text_b), example in zip(rows, examples, strict=True):
        assert (guid, text_a, text_b) == (example.guid, example.text_a, example.text_b)
        assert label == labels[int(np.argmax([float(p) for p in probabilities]))]


def test_final_model_has_no_slots_and_is_whole(trained):
    _, result, _ = trained
    names = [n for n, _ in tf.train.list_variables(result["final_model"] + "/bert_model.ckpt")]
    assert "output_weights" in names and not [n for n in names if "adam" in n]
    bert_config, tokenizer, model = checkpoints.from_pretrained(result["final_model"])
    assert tokenizer.do_lower_case and model.built


def test_evaluating_and_predicting_later_gives_the_same(trained, tmp_path):
    """A run of its own, from the trained output_dir and without any other flag."""
    _, result, folder = trained
    before = {
        name: Path(result[name]).read_text()
        for name in ("eval_results", "test_results", "predictions")
    }
    shutil.copytree(folder, tmp_path / "run")
    later = ClassificationConfig(
        task_name="mnli",
        data_dir=str(TINY / "MNLI"),
        output_dir=str(tmp_path / "run"),
        max_seq_length=24,
        do_eval=True,
        do_predict=True,
    )
    again = classification.run(later)
    assert {name: Path(again[name]).read_text() for name in before} == before


def test_a_fine_tuned_model_starts_another_task(trained, tmp_path, capsys):
    """Two labels instead of three: the encoder is loaded, the head is new."""
    _, result, _ = trained
    run = config(
        tmp_path,
        task_name="cola",
        data_dir=str(TINY / "CoLA"),
        init_checkpoint=result["final_model"],
        bert_config_file=None,
        vocab_file=None,
        do_train=True,
    )
    classification.run(run)
    assert "output_weights" in capsys.readouterr().out


def test_regression_writes_correlations(tmp_path):
    run = config(
        tmp_path,
        task_name="sts-b",
        data_dir=str(TINY / "STS-B"),
        do_train=True,
        do_eval=True,
        do_predict=True,
    )
    result = classification.run(run)
    names = [line.split(" = ")[0] for line in Path(result["eval_results"]).read_text().splitlines()]
    assert names == ["eval_loss", "eval_pearson", "eval_spearman", "global_step", "loss"]
    assert rows_of(result["predictions"])[0] == ["id", "prediction", "text_a", "text_b"]


def test_the_best_checkpoint_is_kept(tmp_path):
    run = config(tmp_path, do_train=True, do_eval=True, eval_steps=4, num_train_epochs=4)
    result = classification.run(run)
    best = json.loads((tmp_path / "best_checkpoint.json").read_text())["checkpoint"]
    assert result["metrics"]["best_checkpoint"] == str(tmp_path / best)
    assert tf.train.load_checkpoint(str(tmp_path / best)).has_tensor("output_weights")
    # The last five, and the best one.
    assert 5 <= len(list(tmp_path.glob("model.ckpt-*.index"))) <= 6


# ------------------------------------------------------------------------- every kind of task

FOLDERS = {
    "cola": "CoLA", "sst-2": "SST-2", "mrpc": "MRPC", "sts-b": "STS-B", "qqp": "QQP",
    "qnli": "QNLI", "rte": "RTE", "wnli": "WNLI", "xnli": "XNLI", "paws-x": "PAWS-X",
    "lcqmc": "LCQMC", "chnsenticorp": "ChnSentiCorp", "afqmc": "AFQMC", "tnews": "TNEWS",
    "iflytek": "IFLYTEK", "cmnli": "CMNLI", "ocnli": "OCNLI", "csl": "CSL", "cluewsc": "CLUEWSC",
}  # fmt: skip
LEADERBOARD = set(FOLDERS) - {"xnli", "paws-x", "lcqmc", "chnsenticorp"}


def test_every_task_is_tried():
    assert set(glue.TASKS) == {*FOLDERS, "mnli", "ax"}


def whole_run(tmp_path, task_name, folder):
    """Trains a step or two, evaluates, predicts; checks what must be there."""
    actions = {"do_train": True, "do_eval": True, "do_predict": True}
    if not glue.find(task_name).has(str(folder), "train"):
        actions = {"do_predict": True}
    run = config(
        tmp_path, task_name=task_name, data_dir=str(folder), num_train_epochs=0.5, **actions
    )
    result = classification.run(run)
    if task_name in LEADERBOARD:
        lines = Path(result["submission"]).read_text(encoding="utf-8").splitlines()
        rows = len(Path(result["predictions"]).read_text(encoding="utf-8").splitlines()) - 1
        assert len(lines) == rows + Path(result["submission"]).name.endswith(".tsv")
    metrics, decisive = result["metrics"], glue.find(task_name).metric.primary
    if "eval" in metrics:  # Google's lines, and the deciding one
        values = dict(
            line.split(" = ") for line in Path(result["eval_results"]).read_text().splitlines()
        )
        assert float(values[f"eval_{decisive}"]) == pytest.approx(metrics["eval"][decisive])
    if task_name in ("paws-x", "lcqmc", "chnsenticorp", "xnli"):
        assert decisive in metrics["predict"] and (tmp_path / "eval_results_test.txt").is_file()
    else:
        assert metrics["predict"].keys() == {"examples"}
    return result


EACH_KIND = ("cola", "paws-x", "tnews", "csl")  # the others are only longer


@pytest.mark.parametrize(
    "task_name",
    [pytest.param(x, marks=[] if x in EACH_KIND else pytest.mark.slow) for x in FOLDERS],
)
def test_task(task_name, tmp_path):
    result = whole_run(tmp_path, task_name, TINY / FOLDERS[task_name])
    assert glue.find(task_name).metric.primary in result["metrics"]["eval"]
    assert Path(result["report"]).stat().st_size > 10_000


def glue_samples():
    default = Path(__file__).parents[2] / "shared" / "data" / "glue_samples"
    return Path(os.environ.get("BERT_TF_GLUE_SAMPLES", default))


@pytest.mark.slow
@pytest.mark.skipif(not glue_samples().is_dir(), reason="BERT_TF_GLUE_SAMPLES names no folder")
def test_the_first_rows_of_glue_itself(tmp_path, released_vocab, trained):
    """Every task of GLUE in its own files; AX, and tasks without a training file, are predicted."""
    vocab_file = released_vocab("bert-base-uncased")
    shape = json.loads((TINY / "bert_config.json").read_text()) | {"vocab_size": 30522}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    files = {"vocab_file": str(vocab_file), "bert_config_file": str(tmp_path / "bert_config.json")}
    others = {name: folder for name, folder in FOLDERS.items() if name != "qnli"}
    for task_name, folder in {**others, "qnli": "QNLI", "ax": "diagnostic"}.items():
        data_dir = glue_samples() / folder
        if not data_dir.is_dir():
            continue
        actions = {"do_train": True, "do_eval": True, "do_predict": True}
        changes = dict(files)
        # The samples hold no training file of these: a model of a task with the same labels.
        if task_name == "qnli":
            changes = {"init_checkpoint": str(tmp_path / "rte" / "final_model")}
            actions = {"do_eval": True, "do_predict": True}
        if task_name == "ax":
            changes = {"init_checkpoint": trained[1]["final_model"]}
            actions = {"do_predict": True}
        if "init_checkpoint" in changes:
            changes |= {"bert_config_file": None, "vocab_file": None}
        result = classification.run(
            config(
                tmp_path / task_name,
                task_name=task_name,
                data_dir=str(data_dir),
                train_batch_size=16,
                num_train_epochs=0.5,
                **changes,
                **actions,
            )
        )
        assert Path(result["submission"]).is_file(), task_name


def test_both_sets_of_mnli_are_evaluated_and_predicted(trained):
    _, result, folder = trained
    metrics = result["metrics"]
    assert metrics["eval"]["examples"] == 6 and metrics["eval_mismatched"]["examples"] == 4
    assert (folder / "eval_results_mismatched.txt").is_file()
    names = {path.name for path in (folder / "submission").iterdir()}
    assert names == {"MNLI-m.tsv", "MNLI-mm.tsv"}


def test_ax_is_predicted_by_a_model_of_mnli(trained, tmp_path):
    run = config(
        tmp_path,
        task_name="ax",
        data_dir=str(TINY / "AX"),
        init_checkpoint=trained[1]["final_model"],
        do_predict=True,
    )
    assert Path(classification.run(run)["submission"]).name == "AX.tsv"


def test_several_labels_a_row_from_file_to_export(tmp_path):
    rows = [("big red dog", "big|red"), ("small dog", ""), ("red fox", "red"), ("big fox", "big")]
    text = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows * 2)
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.csv").write_text(text)
    run = config(
        tmp_path / "run",
        task_name="csv",
        data_dir=str(tmp_path),
        problem_type="multilabel",
        do_train=True,
        do_eval=True,
        do_predict=True,
        export_dir=str(tmp_path / "export"),
        learning_rate=3e-3,
        num_train_epochs=40,
        warmup_proportion=0.0,
    )
    result = classification.run(run)
    scores = result["metrics"]["eval"]
    assert {"micro_f1", "macro_f1", "exact_match"} <= set(scores)
    tested = result["metrics"]["predict"]  # the test file tells its labels, and is the dev file
    assert tested == scores
    assert "eval_micro_f1 = " in (tmp_path / "run/eval_results_test.txt").read_text()
    header, first, *_ = rows_of(result["predictions"])
    assert header == ["id", "label", "probability_big", "probability_red", "text_a"]
    both = zip(("big", "red"), first[2:4], strict=True)
    probable = [name for name, p in both if float(p) >= 0.5]
    assert (first[:2], first[4]) == (["test-1", "|".join(probable)], "big red dog")
    loaded = tf.saved_model.load(result["export"]).signatures["single_sentence"]
    answer = loaded(text_a=tf.constant(["big red dog"]))
    np.testing.assert_allclose(answer["probabilities"][0], list(map(float, first[2:4])), atol=1e-5)


@pytest.mark.parametrize("long_text", ["head_tail", "windows"])
def test_long_texts_from_file_to_predictions(tmp_path, long_text):
    """To export for windows: the model that is served makes rows as training did."""
    for split in ("train", "dev", "test"):
        lines = [f"{'the dog ' * 30}{end},{label}" for end, label in (("big", "a"), ("red", "b"))]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines * 4, "dog,a", ""]))
    run = config(
        tmp_path / "run",
        task_name="csv",
        data_dir=str(tmp_path),
        long_text=long_text,
        do_train=True,
        do_eval=True,
        do_predict=True,
        export_dir=str(tmp_path / "export") if long_text == "windows" else None,
    )
    result = classification.run(run)
    data = result["metrics"]["data"]["dev"]
    assert data["examples"] == 9 and result["metrics"]["eval"]["examples"] == 9
    if long_text == "windows":
        assert data["rows"] > 9 and data["truncated_percent"] == 0
    else:
        assert data["rows"] == 9 and data["truncated_percent"] == 88.9
        return
    _, *rows = rows_of(result["predictions"])
    serve = tf.saved_model.load(result["export"]).signatures["single_sentence"]
    answer = serve(text_a=tf.constant(["the dog " * 30 + "red"]))["probabilities"][0].numpy()
    served = [float(cell) for cell in rows[1][2:4]]
    np.testing.assert_allclose(answer, served, atol=1e-5)
    check_no_rows(result["export"])


def test_bad_rows_are_left_out_on_request(tmp_path, capsys):
    for split in ("train", "dev"):
        text = (TINY / "own" / f"{split}.csv").read_text() + "too,few\n"
        (tmp_path / f"{split}.csv").write_text(text)
    own = {"task_name": "csv", "data_dir": str(tmp_path), "text_b_column": "second"}
    with pytest.raises(ValueError, match=r"train\.csv:18: expected 5 columns, got 2"):
        classification.run(config(tmp_path / "a", do_train=True, **own))
    run = config(tmp_path / "b", do_train=True, do_eval=True, skip_bad_rows=True, **own)
    result = classification.run(run)
    assert result["metrics"]["bad_rows"] == {"train": 1, "dev": 1}
    assert "train.csv:18: expected 5 columns, got 2" in capsys.readouterr().out


def test_the_data_is_looked_at_before_training(trained, tmp_path, capsys):
    """A dev set that is the training set, sorted by label."""
    rows = [f"the dog is {i},{label}" for label in "ab" for i in range(15)]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *rows, ""]))
    run = config(
        tmp_path / "run", task_name="csv", data_dir=str(tmp_path), do_train=True, do_eval=True
    )
    result = classification.run(run)
    shown = capsys.readouterr().out
    assert "train: 30 examples, 0 (0.0%) truncated (0 of" in shown
    assert "labels: a 15, b 15" in shown
    assert "train is sorted by label" in shown
    assert "15 texts of dev are in train too (0 of them with another label)" in shown
    assert "15 examples of train repeat the texts of another one with another label" in shown
    assert len(result["metrics"]["data"]["warnings"]) == 4


# ------------------------------------------------------------------------------ several seeds


def test_several_seeds(tmp_path, capsys):
    changes = {"do_train": True, "do_eval": True, "do_predict": True, "num_train_epochs": 1}
    result = classification.run(config(tmp_path, num_seeds=2, **changes))
    summary = json.loads(Path(result["seeds"]).read_text())
    scores = [run["score"] for run in summary["runs"]]
    assert [run["seed"] for run in summary["runs"]] == [12345, 12346]
    assert summary["mean"] == pytest.approx(np.mean(scores))
    assert summary["standard_deviation"] == pytest.approx(np.std(scores, ddof=1))
    assert summary["best"] == max(scores) == result["metrics"]["eval"]["accuracy"]
    assert Path(result["test_results"]).parent == tmp_path
    assert "mean " in capsys.readouterr().out
    # One of them by itself is the same run.
    alone = classification.run(config(tmp_path / "alone", random_seed=12346, **changes))
    assert alone["metrics"]["eval"]["accuracy"] == scores[1]


def test_a_collapsed_run_is_named_and_started_again(tmp_path, monkeypatch, capsys):
    """Of the first seed: every weight of the classifier at zero says nothing."""
    step = training.Loop.train

    def collapse_first(self, *args):
        result = step(self, *args)
        if self.config.random_seed == 12345:
            for weight in self.model.get_layer("classifier").weights:
                weight.assign(tf.zeros_like(weight))
        return result

    monkeypatch.setattr(training.Loop, "train", collapse_first)
    changes = {"do_train": True, "do_eval": True, "num_train_epochs": 1}
    result = classification.run(config(tmp_path / "a", **changes))
    assert "predicts 'contradiction' for all 6 examples" in result["metrics"]["collapsed"]
    assert "The run has collapsed" in capsys.readouterr().out
    # A tiny model that was hardly trained is near the prior as well: here only zeros count.
    flat = lambda evaluated: "zeros" if np.ptp(evaluated.outputs) < 1e-6 else None  # noqa: E731
    monkeypatch.setattr(classification, "collapse", flat)
    result = classification.run(config(tmp_path / "b", restart_on_collapse=True, **changes))
    runs = json.loads(Path(result["seeds"]).read_text())["runs"]
    assert [run["collapsed"] for run in runs] == ["zeros", None]
    assert result["metrics"]["collapsed"] is None


@pytest.mark.parametrize(
    ("probabilities", "expected", "collapsed"),
    [
        ([0.5, 0.5], [0, 1, 0, 1], True),  # as much as the prior knows
        ([0.4, 0.6], [1, 1, 1, 0], True),
        ([0.25, 0.75], [1, 1, 1, 1], False),  # there is only one class
    ],
)
def test_what_a_collapse_is(probabilities, expected, collapsed):
    outputs = np.array([probabilities] * 4, np.float32)
    losses = -np.log(outputs[np.arange(4), expected])
    evaluated = Evaluated([], ["a", "b"], outputs, np.array(expected)[:, None], losses, 4)
    assert bool(collapse(evaluated)) == collapsed


def test_a_model_that_knows_more_than_the_prior_has_not_collapsed():
    """It predicts the frequent class for all, but less surely where that is wrong."""
    outputs = np.array([[0.95, 0.05]] * 3 + [[0.55, 0.45]], np.float32)
    expected = np.array([0, 0, 0, 1])
    losses = -np.log(outputs[np.arange(4), expected])
    assert not collapse(Evaluated([], ["a", "b"], outputs, expected[:, None], losses, 4))


def test_nothing_but_collapsed_runs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(classification, "collapse", lambda evaluated: "it learnt nothing")
    monkeypatch.setattr(seeds, "MAX_RESTARTS", 2)
    changes = {"do_train": True, "do_eval": True, "num_train_epochs": 0.2}
    with pytest.raises(ValueError, match=r"2 runs in a row have collapsed .*--learning_rate"):
        classification.run(config(tmp_path, restart_on_collapse=True, **changes))


def test_class_weights_and_smoothing_reach_the_loss(tmp_path):
    first = {}
    for name, changes in {
        "plain": {},
        "weights": {"class_weights": "1,5,1"},
        "balanced": {"class_weights": "balanced"},
        "smooth": {"label_smoothing": 0.2},
    }.items():
        one_step = {"do_train": True, "num_train_epochs": 0.5, "train_batch_size": 8}
        classification.run(config(tmp_path / name, **one_step, **changes))
        first[name] = read_scalars(str(tmp_path / name))["loss"][1]
    assert min(np.diff(sorted(first.values()))) > 1e-6  # more than rounding
    with pytest.raises(ValueError, match="--class_weights=1,2: give 'balanced', or 3 numbers"):
        classification.run(config(tmp_path / "bad", do_train=True, class_weights="1,2"))


# ---------------------------------------------------------------------------------- refusals


def test_other_flags_are_refused_with_the_difference(trained, tmp_path):
    run, _, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    other = config(tmp_path / "run", do_train=True, learning_rate=1e-3)
    with pytest.raises(ValueError, match=r"--learning_rate: 5e-05 then, 0.001 now"):
        classification.run(other)


def test_other_data_is_refused(trained, tmp_path):
    _, _, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    shutil.copytree(TINY / "MNLI", tmp_path / "data")
    path = tmp_path / "data" / "train.tsv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    other = config(tmp_path / "run", data_dir=str(tmp_path / "data"), do_train=True)
    with pytest.raises(ValueError, match="the contents of the training data have changed"):
        classification.run(other)


def test_another_architecture_is_refused(trained, tmp_path):
    _, _, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    values = json.loads((TINY / "bert_config.json").read_text()) | {"hidden_act": "relu"}
    (tmp_path / "bert_config.json").write_text(json.dumps(values))
    other = config(
        tmp_path / "run", do_train=True, bert_config_file=str(tmp_path / "bert_config.json")
    )
    with pytest.raises(ValueError, match="model's hidden_act: 'gelu' then, 'relu' now"):
        classification.run(other)


def test_a_start_that_failed_does_not_claim_the_folder(tmp_path):
    """The remedy that an error gives is not refused: nothing was trained yet."""
    with pytest.raises(ValueError, match="use a smaller batch"):
        classification.run(config(tmp_path, do_train=True, train_batch_size=500))
    classification.run(config(tmp_path, do_train=True))


def test_labels_keep_the_order_the_model_was_trained_with(trained, tmp_path):
    _, result, _ = trained
    shutil.copytree(result["final_model"], tmp_path / "model")
    labels = ["neutral", "contradiction", "entailment"]
    (tmp_path / "model" / "labels.json").write_text(json.dumps(labels))
    run = config(
        tmp_path / "run", init_checkpoint=str(tmp_path / "model"), do_predict=True, do_eval=True
    )
    header, *_ = rows_of(classification.run(run)["predictions"])
    assert header[2:5] == [f"probability_{label}" for label in labels]


def test_own_files_without_a_training_file_use_the_labels_of_the_model(tmp_path):
    columns = {"text_b_column": "second"}
    own = {"task_name": "csv", "data_dir": str(TINY / "own"), **columns}
    trained = classification.run(config(tmp_path / "a", do_train=True, **own))
    (tmp_path / "data").mkdir()
    shutil.copy(TINY / "own" / "test.csv", tmp_path / "data")
    own["data_dir"] = str(tmp_path / "data")
    run = config(tmp_path / "b", init_checkpoint=trained["final_model"], do_predict=True, **own)
    assert Path(classification.run(run)["predictions"]).exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"do_train": False}, "At least one of"),
        ({"max_seq_length": 4096}, r"--max_seq_length=4096 exceeds this model's \d+ positions"),
        ({"task_name": "colaa"}, "Task not found: colaa"),
        ({"train_batch_size": 0}, "--train_batch_size=0"),
        ({"vocab_file": "typo.txt"}, "--vocab_file=typo.txt: there is no such file"),
        ({"init_checkpoint": "nowhere"}, "--init_checkpoint=nowhere: no checkpoint at nowhere"),
        ({"train_batch_size": 500}, "use a smaller batch"),
        ({"data_dir": "nowhere"}, "--data_dir"),
        ({"text_a_column": "x"}, "--text_a_column=x is for your own files"),
        ({"eval_steps": 5}, "it needs --do_train=true and --do_eval=true"),
        ({"random_seed": -1}, "--random_seed=-1"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        classification.run(config(tmp_path / "run", **{"do_train": True} | changes))


def test_a_vocabulary_is_needed_beside_the_config_or_by_itself(tmp_path):
    alone = tmp_path / "bert_config.json"
    shutil.copy(config(tmp_path, do_train=True).bert_config_file, alone)
    flags = {"do_train": True, "bert_config_file": str(alone), "vocab_file": None}
    with pytest.raises(ValueError, match="--vocab_file is needed"):
        classification.run(config(tmp_path / "run", **flags))


def test_predicting_without_a_trained_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint; train first"):
        classification.run(config(tmp_path, do_predict=True))


def test_a_development_set_out_of_the_training_file(tmp_path, capsys):
    """Never trained on, and the same rows where the run goes on or the model is only used."""
    rows = [f"the dog is {i},{'ab'[i % 3 == 0]}" for i in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows, ""]))
    own = {"task_name": "csv", "data_dir": str(tmp_path), "dev_split": 0.1}
    run = config(tmp_path / "run", do_train=True, do_eval=True, num_train_epochs=0.1, **own)
    result = classification.run(run)
    listed = Path(result["dev_split"]).read_text()
    assert "dev: 6 of 60 rows of the training file (--dev_split=0.1)" in capsys.readouterr().out
    data = result["metrics"]["data"]
    assert (data["train"]["examples"], data["dev"]["examples"]) == (54, 6)
    assert data["dev"]["labels"] == {"a": 4, "b": 2}
    assert not [text for text in data["warnings"] if "are in train too" in text]
    again = classification.run(run)  # finds its checkpoint
    used = config(tmp_path / "run", do_eval=True, random_seed=7, **own)
    for later in (again, classification.run(used)):
        assert Path(later["dev_split"]).read_text() == listed
        assert later["metrics"]["eval"] == result["metrics"]["eval"]
    with pytest.raises(ValueError, match=r"--dev_split=0\.2, but .* was trained with 0\.1"):
        classification.run(config(tmp_path / "run", do_eval=True, **own | {"dev_split": 0.2}))
    with pytest.raises(ValueError, match=r"--dev_split: 0\.1 then, 0\.2 now"):
        classification.run(dataclasses.replace(run, dev_split=0.2))
    assert Path(result["dev_split"]).read_text() == listed  # of the run that the folder holds


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_bad_test_file_is_found_before_training(tmp_path, capsys, seeds):
    text = "text,label\na,spam\nb,ham\nc,spam \n"
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text(text)
    (tmp_path / "test.csv").write_text("txt\na\n")
    own = {"task_name": "csv", "data_dir": str(tmp_path), "num_seeds": seeds}
    run = config(tmp_path / "run", do_train=True, do_eval=True, do_predict=True, **own)
    with pytest.raises(ValueError, match=r"test\.csv:1: column 'text' is missing"):
        classification.run(run)
    assert not list(tmp_path.glob("run/**/model.ckpt*"))
    said = "Note: .*train.csv:4: the label 'spam ' .* Did you mean 'spam'"
    assert seeds == 2 or re.search(said, capsys.readouterr().out)
