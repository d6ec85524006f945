"""The classifier as people use it: one command on files, and what it leaves behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bert_tf import checkpoints
from bert_tf.tasks import classification
from bert_tf.tasks.classification_config import ClassificationConfig

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


def test_eval_loss_is_the_mean_cross_entropy(trained, tmp_path):
    """Against the probabilities that prediction writes for the same rows."""
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
    scores = result["metrics"]["eval"]
    loss = -np.log(probabilities[np.arange(len(expected)), expected]).mean()
    assert scores["eval_loss"] == pytest.approx(loss, abs=1e-5)
    assert scores["accuracy"] == pytest.approx((probabilities.argmax(1) == expected).mean())


def test_predictions_name_their_rows(trained):
    _, result, _ = trained
    header, *rows = Path(result["predictions"]).read_text().splitlines()
    labels = ["contradiction", "entailment", "neutral"]
    assert header.split("\t") == ["id", "label", *(f"probability_{label}" for label in labels)]
    for row in rows:
        guid, label, *probabilities = row.split("\t")
        assert guid.startswith("test-")
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
        export_dir=str(tmp_path / "export"),
    )
    result = classification.run(run)
    names = [line.split(" = ")[0] for line in Path(result["eval_results"]).read_text().splitlines()]
    assert names == ["eval_loss", "eval_pearson", "eval_spearman", "global_step", "loss"]
    header = Path(result["predictions"]).read_text().splitlines()[0]
    assert header == "id\tprediction"


def test_the_best_checkpoint_is_kept(tmp_path):
    run = config(tmp_path, do_train=True, do_eval=True, eval_steps=1, num_train_epochs=8)
    result = classification.run(run)
    best = json.loads((tmp_path / "best_checkpoint.json").read_text())["checkpoint"]
    assert result["metrics"]["best_checkpoint"] == str(tmp_path / best)
    assert tf.train.load_checkpoint(str(tmp_path / best)).has_tensor("output_weights")
    # The last five, and the best one.
    assert 5 <= len(list(tmp_path.glob("model.ckpt-*.index"))) <= 6


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
    header = Path(classification.run(run)["predictions"]).read_text().splitlines()[0]
    assert header.split("\t")[2:] == [f"probability_{label}" for label in labels]


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
        ({"vocab_file": None}, "--vocab_file is needed"),
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


def test_predicting_without_a_trained_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint; train first"):
        classification.run(config(tmp_path, do_predict=True))
