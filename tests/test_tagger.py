"""The tagger as people use it: one command on files, and what it leaves behind."""

import dataclasses
import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import seqeval.metrics
import tensorflow as tf
import training_options
from exporting import exporting_only

from bert_tf import checkpoints
from bert_tf.entity_metrics import entities
from bert_tf.export import program
from bert_tf.export.export_config import ExportConfig
from bert_tf.tasks import tagging
from bert_tf.tasks.tagging_config import TaggingConfig

TINY = Path(__file__).parent / "tiny"
FILES = {
    "bert_config_file": str(TINY / "bert_config.json"),
    "vocab_file": str(TINY / "vocab.txt"),
}
MAX_SEQ_LENGTH = 16  # of up to 30 words in a sentence
PHRASES = [
    (["he"], ["B-WHO"]),
    (["she"], ["B-WHO"]),
    (["film"], ["B-WHAT"]),
    (["great", "story"], ["B-WHAT", "I-WHAT"]),
    *(([word], ["O"]) for word in ("liked", "saw", "the", "and", "never", "today", "b")),
]
LABELS = ["O", "B-WHAT", "B-WHO", "I-WHAT", "I-WHO"]


def sentences(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        phrases = rng.choices(PHRASES, k=rng.choice([3, 5, 8, 20]))
        yield tuple(sum(parts, []) for parts in zip(*phrases, strict=True))


def write_data(folder, kind):
    folder.mkdir()
    for split, count in (("train", 64), ("dev", 16), ("test", 16)):
        made = list(sentences(count, split))
        if kind == "conll":
            text = "".join(
                "".join(f"{word} x {tag}\n" for word, tag in zip(*s, strict=True)) + "\n"
                for s in made
            )
            (folder / f"{split}.txt").write_text(text)
        else:
            rows = ["id\ttext\tlabel"]
            rows += [
                f"{i}\t{' '.join(words)}\t{' '.join(tags)}" for i, (words, tags) in enumerate(made)
            ]
            (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder


def config(data_dir, output_dir, **changes):
    values = {
        "task_name": "conll",
        "data_dir": str(data_dir),
        "output_dir": str(output_dir),
        "max_seq_length": MAX_SEQ_LENGTH,
        "train_batch_size": 8,
        "learning_rate": 5e-3,
        "num_train_epochs": 6,
        **FILES,
    }
    if changes.get("use_crf"):  # the rate of so small an encoder suits both
        values["crf_learning_rate_multiplier"] = 1.0
    return TaggingConfig(**values | changes)


@pytest.fixture(scope="module", params=["conll", "tsv"])
def trained(request, tmp_path_factory):
    """One whole run: CoNLL columns with a softmax, or a table with a CRF."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = {"task_name": request.param}
    if request.param == "tsv":
        export_dir = str(folder / "export")
        flags |= {"text_column": "text", "use_crf": True, "export_dir": export_dir}
    data = write_data(folder / "data", request.param)
    run = config(data, folder / "run", do_train=True, do_eval=True, do_predict=True, **flags)
    return run, tagging.run(run)


def columns(path, kind):
    """Tags of the test file, and the predicted ones behind them."""
    text = Path(path).read_text()
    if kind == "tsv":
        rows = [row.split("\t") for row in text.splitlines()[1:]]
        return [row[2].split() for row in rows], [row[3].split() for row in rows]
    blocks = [[line.split() for line in b.splitlines()] for b in text.strip().split("\n\n")]
    return [[r[2] for r in b] for b in blocks], [[r[3] for r in b] for b in blocks]


def test_predictions_are_the_file_with_one_more_column(trained):
    run, result = trained
    given = next(Path(run.data_dir).glob("test.*")).read_text().splitlines()
    separator = "\t" if run.task_name == "tsv" else " "
    written = Path(result["predictions"]).read_text().splitlines()
    assert [line.rpartition(separator)[0] for line in written] == given


def test_scores_are_those_of_seqeval(trained):
    run, result = trained
    tags, predicted = columns(result["predictions"], run.task_name)
    scores = result["metrics"]["predict"]
    assert scores["f1"] == pytest.approx(seqeval.metrics.f1_score(tags, predicted))
    assert scores["accuracy"] == pytest.approx(seqeval.metrics.accuracy_score(tags, predicted))
    report = seqeval.metrics.classification_report(tags, predicted, output_dict=True)
    for kind, values in scores["types"].items():
        assert values["recall"] == pytest.approx(report[kind]["recall"])
        assert values["support"] == report[kind]["support"]
    assert scores["f1"] > 0.9  # the words alone tell the tags
    assert -1e-3 < scores["loss"] < 1


def test_evaluation_file(trained):
    _, result = trained
    lines = Path(result["eval_results"]).read_text().splitlines()
    values = dict(line.split(" = ") for line in lines)
    scores = result["metrics"]["eval"]
    for name in ("f1", "precision", "recall", "accuracy", "loss", "support"):
        assert float(values[f"eval_{name}"]) == scores[name]
    assert float(values["eval_WHO_f1"]) == scores["types"]["WHO"]["f1"]
    assert int(values["global_step"]) == result["metrics"]["train"]["steps"]
    tested = Path(result["eval_results_test"]).read_text()  # the test file has tags
    assert f"eval_f1 = {result['metrics']['predict']['f1']}\n" in tested


def test_the_report(trained):
    _, result = trained
    page = Path(result["report"]).read_text(encoding="utf-8")
    top, _, rest = page.partition("<nav")
    assert f"f1 <strong>{result['metrics']['eval']['f1']:.4f}</strong>" in top
    assert result["metrics"]["collapsed"] is None and "collapsed" not in top
    assert "Entities</h2>" in rest and "Curves</h2>" in rest


def test_what_lies_beside_the_weights(trained):
    run, result = trained
    assert checkpoints.saved_labels(result["final_model"]) == LABELS
    assert checkpoints.saved_task(result["final_model"]) == {
        "task_type": "tagging",
        "task_name": run.task_name,
        "max_seq_length": MAX_SEQ_LENGTH,
        "doc_stride": 7,
        "tag_scheme": "IOB2",
        "use_crf": run.use_crf,
        "columns": 3 if run.task_name == "conll" else None,
        "dev_split": None,
    }
    data = result["metrics"]["data"]["test"]
    assert data["rows"] > data["sentences"] == 16  # long sentences have several windows


def test_evaluating_and_predicting_later_gives_the_same(trained, tmp_path):
    """From the final model, which says by itself whether it has a CRF."""
    run, result = trained
    before = {name: Path(result[name]).read_text() for name in ("eval_results", "predictions")}
    later = TaggingConfig(
        task_name=run.task_name,
        data_dir=run.data_dir,
        text_column=run.text_column,
        init_checkpoint=result["final_model"],
        output_dir=str(tmp_path),
        max_seq_length=MAX_SEQ_LENGTH,
        do_eval=True,
        do_predict=True,
        predict_batch_size=5,
    )
    again = tagging.run(later)
    after = {name: Path(again[name]).read_text() for name in before}
    assert after["predictions"] == before["predictions"]
    scores, scores_before = (
        [line for line in texts["eval_results"].splitlines() if "global_step" not in line]
        for texts in (after, before)
    )
    assert scores == scores_before


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_exports_in_less_than_float32_are_measured(trained, tmp_path, precision):
    """In float32 the card says what the evaluation said, with a CRF and without."""
    run, result = trained
    later = exporting_only(run, result, tmp_path, precision)
    card = (Path(tagging.run(later)["export"]) / "README.md").read_text()
    row = re.search(r"^\| f1 \| ([\d.]+) \| ([\d.]+) \|$", card, re.MULTILINE)
    assert float(row[1]) == pytest.approx(result["metrics"]["eval"]["f1"], abs=1e-4)


def test_a_finished_run_is_not_trained_again(trained, tmp_path, capsys):
    run, result = trained
    before = Path(result["eval_results"]).read_text()
    again = tagging.run(dataclasses.replace(run, export_dir=None))
    assert "Training has already finished" in capsys.readouterr().out
    assert Path(again["eval_results"]).read_text() == before


def test_texts_without_entities_are_predicted_by_characters(trained, tmp_path):
    """A model of one form of files, used on another; its labels are known without training data."""
    run, result = trained
    text = "Today he saw the  great story"
    (tmp_path / "test.jsonl").write_text(json.dumps({"id": 7, "text": text}) + "\n")
    flags = {"task_name": "jsonl", "init_checkpoint": result["final_model"], "do_predict": True}
    again = tagging.run(config(tmp_path, tmp_path / "run", **flags))
    [line] = Path(again["predictions"]).read_text().splitlines()
    row = json.loads(line)
    assert row["id"] == 7 and row["text"] == text
    assert [(e["text"], e["label"]) for e in row["label"]] == [
        ("he", "WHO"),
        ("great story", "WHAT"),
    ]
    assert all(text[e["start"] : e["end"]] == e["text"] for e in row["label"])
    assert again["metrics"]["predict"] == {"sentences": 1}  # there is nothing to compare with


def test_exported_models_find_entities(trained, tmp_path):
    """By --export_dir, or later from the checkpoint; each was compared with Python's answers."""
    run, result = trained
    path = result.get("export")
    assert bool(path) == run.use_crf
    if not path:
        flags = {"checkpoint": result["final_model"], "export_dir": str(tmp_path)}
        path = program.run(ExportConfig(**flags))
    card = (Path(path) / "README.md").read_text()
    assert f"a long one is read in windows of {MAX_SEQ_LENGTH} word pieces" in card
    serve = tf.saved_model.load(path).signatures["serving_default"]
    texts = [
        "",
        "é \U0001f642 he liked the story. She saw the  great\u200b story " + "today " * 40 + "film",
    ]
    answer = {name: value.numpy().tolist() for name, value in serve(tf.constant(texts)).items()}
    assert set(answer) == {"labels", "texts", "starts", "ends"}
    assert answer["starts"][0] == [-1] * len(answer["starts"][0])
    assert set(answer["labels"][0]) == {b""}
    spans = zip(answer["starts"][1], answer["ends"][1], answer["texts"][1], strict=True)
    assert all(texts[1][start:end] == text.decode() for start, end, text in spans)
    found = list(zip(answer["texts"][1], answer["labels"][1], strict=True))
    assert (b"he", b"WHO") in found and (b"film", b"WHAT") in found
    assert ("great\u200b story".encode(), b"WHAT") in found


def test_classes_of_words_are_judged_by_accuracy(tmp_path):
    """Parts of speech, given labels, the best checkpoint; a bad sentence left out and said."""
    data = tmp_path / "data"
    data.mkdir()
    rows = ["the film\tDET NOUN", "he saw it\tPRON VERB PRON", "a book\tDET NOUN"] * 3
    for split in ("train", "dev"):
        (data / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    with (data / "train.tsv").open("a") as file:
        file.write("two words\tNOUN\n")
    run = config(
        data,
        tmp_path / "run",
        task_name="tsv",
        labels="DET,NOUN,PRON,VERB,X",
        num_train_epochs=4,
        train_batch_size=3,
        eval_steps=4,
        skip_bad_rows=True,
        do_train=True,
        do_eval=True,
    )
    metrics = tagging.run(run)["metrics"]
    assert metrics["bad_rows"] == {"train": 1}
    assert set(metrics["eval"]) == {"sentences", "accuracy", "loss"}
    assert metrics["best_checkpoint"].endswith(f"model.ckpt-{metrics['global_step']}")
    task = checkpoints.saved_task(str(tmp_path / "run"))
    assert task["tag_scheme"] == "none"
    assert checkpoints.saved_labels(str(tmp_path / "run")) == ["DET", "NOUN", "PRON", "VERB", "X"]


def test_a_crf_learns_faster_than_what_is_below(tmp_path):
    """Step 1 moves its scores by so many times as much; step 2, the last one, has rate 0."""
    data, moved = write_data(tmp_path / "data", "conll"), {}
    for multiplier in (1.0, 50.0):
        folder = tmp_path / str(multiplier)
        flags = {"use_crf": True, "crf_learning_rate_multiplier": multiplier}
        batches = {"train_batch_size": 40, "num_train_epochs": 1, "warmup_proportion": 0.0}
        tagging.run(config(data, folder, do_train=True, **flags, **batches))
        moved[multiplier] = tf.train.load_checkpoint(str(folder / "model.ckpt-2")).get_tensor
    for name in ("crf/transitions", "crf/start_transitions", "crf/end_transitions"):
        slow, fast = moved[1.0](name), moved[50.0](name)
        assert np.abs(slow).max() > 1e-3
        np.testing.assert_allclose(fast, 50 * slow, rtol=1e-5)
    assert np.array_equal(moved[1.0]("output_weights"), moved[50.0]("output_weights"))


def test_cluener_from_file_to_predictions(tmp_path):
    """Texts with entities by characters, the last one included; the test file has none."""
    given = {}
    for split, count in (("train", 64), ("dev", 16), ("test", 16)):
        rows = []
        for words, tags in sentences(count, split):
            starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
            label = {}
            for kind, first, last in entities(tags):
                start, end = starts[first], starts[last] - 1
                text = " ".join(words)[start:end]
                label.setdefault(kind, {}).setdefault(text, []).append([start, end - 1])
            rows.append({"text": " ".join(words), "label": label})
        given[split] = rows
        if split == "test":
            rows = [{"id": number, "text": row["text"]} for number, row in enumerate(rows)]
        lines = [json.dumps(row) + "\n" for row in rows]
        (tmp_path / f"{split}.json").write_text("".join(lines))
    actions = {"do_train": True, "do_eval": True, "do_predict": True}
    result = tagging.run(config(tmp_path, tmp_path / "run", task_name="cluener", **actions))
    assert checkpoints.saved_labels(result["final_model"]) == LABELS
    assert result["metrics"]["eval"]["f1"] > 0.9
    assert result["metrics"]["predict"] == {"sentences": 16}
    found = [json.loads(line) for line in Path(result["predictions"]).read_text().splitlines()]
    assert [row["id"] for row in found] == list(range(16))
    assert [row["text"] for row in found] == [row["text"] for row in given["test"]]
    right = [row["label"] == true["label"] for row, true in zip(found, given["test"], strict=True)]
    assert sum(right) > 12


def test_sentencepiece_from_texts_to_export(tmp_path, spm_models):
    """Words are those of BasicTokenizer, whatever pieces they have; the graph was compared."""
    for split, count in (("train", 64), ("dev", 16)):
        rows = []
        for words, tags in sentences(count, split):
            starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
            label = [[starts[a], starts[b] - 1, kind] for kind, a, b in entities(tags)]
            rows.append(json.dumps({"text": " ".join(words), "label": label}) + "\n")
        (tmp_path / f"{split}.jsonl").write_text("".join(rows))
    shape = json.loads((TINY / "bert_config.json").read_text()) | {"vocab_size": 3000}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    flags = {
        "task_name": "jsonl",
        "vocab_file": None,
        "spm_model_file": str(spm_models["bpe"]),
        "bert_config_file": str(tmp_path / "bert_config.json"),
        "max_seq_length": 32,
        "do_train": True,
        "do_eval": True,
        "export_dir": str(tmp_path / "export"),
    }
    result = tagging.run(config(tmp_path, tmp_path / "run", **flags))
    assert result["metrics"]["data"]["train"]["misaligned_entities"] == 0
    assert result["metrics"]["eval"]["f1"] > 0.9
    serve = tf.saved_model.load(result["export"]).signatures["serving_default"]
    text = "today he liked  the\u3000great story"
    answer = {name: value[0].numpy().tolist() for name, value in serve(tf.constant([text])).items()}
    spans = zip(answer["starts"], answer["ends"], strict=True)
    assert [text[start:end] for start, end in spans] == ["he", "great story"]
    assert answer["labels"] == [b"WHO", b"WHAT"]


def test_every_option_of_training_and_an_interruption(tmp_path, interrupt, capsys):
    data = write_data(tmp_path / "data", "conll")

    def run(folder):
        flags = training_options.FLAGS | {"gradient_accumulation_steps": 2, "use_crf": True}
        return tagging.run(config(data, folder, **flags))

    training_options.check(run, tmp_path, ("eval_results", "predictions"), interrupt, capsys)


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            {"task_name": "tsv"},
            "train.tsv: there is no such file, but --do_train needs it.*dev.txt, test.txt, train",
        ),
        ({"dev_split": 0.1}, "--dev_split=0.1 is for folders without a development file"),
        ({"task_name": "jsonl", "tag_scheme": "IOB2"}, "--tag_scheme=IOB2 is for .*conll or tsv"),
        ({"task_name": "tsv", "tag_column": 2}, "--tag_column=2 is for --task_name=conll"),
        ({"label_column": "tags"}, "--label_column=tags is for --task_name=tsv"),
        ({"tag_column": 5}, "train.txt:1: there are 3 columns, so that --tag_column=5"),
        ({"word_column": 2}, "train.txt:1: .*column 2 for both"),
        ({"doc_stride": 0}, "--doc_stride=0: give 1 or more"),
        ({"crf_learning_rate_multiplier": 0.0}, "--crf_learning_rate_multiplier=0.0: give a num"),
        ({"crf_learning_rate_multiplier": 9.0}, "_multiplier=9.0 needs --use_crf=true"),
        ({"labels": "O,O"}, "--labels=O,O: give two or more different labels"),
        ({"labels": "O,WHO"}, "--labels=O,WHO: labels of entities are O, B-<type>"),
        ({"labels": "O,B-WHO,I-WHO"}, r"train.txt:\d+: unknown tag 'B-WHAT'"),
        ({"do_train": False}, "holds no checkpoint; train first"),
        ({"do_train": False, "do_eval": False}, "At least one of"),
        (
            {"keep_special_tokens": True, "export_dir": "x"},
            "a model with --keep_special_tokens cannot be exported",
        ),
        ({"max_seq_length": 65}, "--max_seq_length=65 exceeds this model's 64 positions"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, flags, message):
    data = write_data(tmp_path / "data", "conll")
    with pytest.raises(ValueError, match=message):
        tagging.run(config(data, tmp_path / "run", **{"do_train": True, "do_eval": True} | flags))


def test_tags_that_the_model_does_not_have(trained, tmp_path, capsys):
    """They are missed, with the scores of seqeval; where there are no others it is not scored."""
    run, result = trained
    data = shutil.copytree(run.data_dir, tmp_path / "data")
    used = {
        "task_name": run.task_name,
        "text_column": run.text_column,
        "init_checkpoint": result["final_model"],
    }
    test = next(data.glob("test.*"))
    test.write_text(test.read_text().replace("B-WHO", "B-HOW"))
    (data / f"dev{test.suffix}").write_text(test.read_text())
    actions = {"do_eval": True, "do_predict": True}
    again = tagging.run(config(data, tmp_path / "run", **used, **actions))
    tags, predicted = columns(again["predictions"], run.task_name)
    assert "B-HOW" in sum(tags, [])
    for part in ("predict", "eval"):
        scores = again["metrics"][part]
        assert scores["f1"] == pytest.approx(seqeval.metrics.f1_score(tags, predicted))
        assert scores["accuracy"] == pytest.approx(seqeval.metrics.accuracy_score(tags, predicted))
        assert scores["types"]["HOW"]["support"] == sum(tags, []).count("B-HOW")
        assert -1e-3 < scores["loss"] < 1  # of the sentences whose tags are known
    assert "words have a tag that the model has not learnt: B-HOW (" in capsys.readouterr().out

    test.write_text(re.sub(r"\b(O|[BI]-\w+)\b", "X", test.read_text()))
    flags = {**used, "do_predict": True}
    again = tagging.run(config(data, tmp_path / "run2", **flags))
    assert columns(again["predictions"], run.task_name)[1] == predicted
    assert again["metrics"]["predict"] == {"sentences": 16}
    assert "has none of its tags (X). The file is predicted, but not sc" in capsys.readouterr().out

    (data / f"dev{test.suffix}").write_text(test.read_text())
    with pytest.raises(
        ValueError, match=r"the model has none of this file's tags \(X\), but O, B-W"
    ):
        tagging.run(config(data, tmp_path / "run3", **used, do_eval=True))


def test_a_test_file_without_the_column_of_tags(trained, tmp_path):
    """Training's file tells; where it is gone, the model remembers."""
    run, result = trained
    data = tmp_path / "data"
    data.mkdir()
    test = next(Path(run.data_dir).glob("test.*"))
    separator = "\t" if run.task_name == "tsv" else " "
    lines = [line.rpartition(separator)[0] for line in test.read_text().splitlines()]
    (data / test.name).write_text("\n".join(lines) + "\n")
    used = {
        "task_name": run.task_name,
        "text_column": run.text_column,
        "init_checkpoint": result["final_model"],
    }
    again = tagging.run(config(data, tmp_path / "run", **used, do_predict=True))
    written = [
        line.rpartition(separator) for line in Path(again["predictions"]).read_text().splitlines()
    ]
    before = Path(result["predictions"]).read_text().splitlines()
    assert [end for _, _, end in written] == [line.rpartition(separator)[2] for line in before]
    assert again["metrics"]["predict"] == {"sentences": 16}
    (data / f"dev{test.suffix}").write_text((data / test.name).read_text())
    message = "there are 2 columns, but 3 in the training file|column 'label' is missing"
    with pytest.raises(ValueError, match=message):
        tagging.run(config(data, tmp_path / "run2", **used, do_eval=True))


def test_why_a_test_file_is_not_scored(tmp_path, capsys):
    """It is the empty tag, not the row that is left out with or without tags."""
    data = write_data(tmp_path / "data", "conll")
    with open(data / "test.txt", "a") as file:
        file.write("\nbad\n\nhe\tX\t\n")
    flags = {"do_predict": True, "skip_bad_rows": True}
    with pytest.raises(ValueError, match="holds no checkpoint"):
        tagging.run(config(data, tmp_path / "run", **flags))
    told = capsys.readouterr().out
    assert "the tag is empty. The file is predicted, but not scored." in told
    assert "1 bad rows were left out" in told


def test_bad_files_are_told_before_training(tmp_path):
    data = write_data(tmp_path / "data", "conll")
    actions = {"do_train": True, "do_eval": True, "do_predict": True}
    for split in ("test", "dev"):
        whole = (data / f"{split}.txt").read_text()
        (data / f"{split}.txt").write_text(whole + "\nbad\n")
        with pytest.raises(ValueError, match=rf"{split}\.txt:\d+: expected 3 columns, got 1"):
            tagging.run(config(data, tmp_path / "run", **actions))
        (data / f"{split}.txt").write_text(whole)
    assert not list((tmp_path / "run").glob("model.ckpt*"))
    with pytest.raises(ValueError, match="--data_dir=/nowhere: there is no such folder"):
        config("/nowhere", tmp_path / "run", **actions).check_inputs()
    (data / "test.txt").unlink()
    (data / "tags.bmes").touch()
    message = r"test\.conll: there is no such file, but --do_predict needs it.*tags\.bmes"
    with pytest.raises(ValueError, match=message):
        config(data, tmp_path / "run", **actions).check_inputs()


def test_one_file_is_enough(tmp_path, capsys):
    """Named as CoNLL-2003's; a part of it becomes the development set, and says which."""
    data, run = write_data(tmp_path / "data", "conll"), tmp_path / "run"
    (data / "train.txt").rename(data / "eng.train")
    (data / "test.txt").rename(data / "eng.testb")
    (data / "dev.txt").unlink()
    flags = {"num_train_epochs": 1, "dev_split": 0.25, "do_eval": True}
    result = tagging.run(config(data, run, do_train=True, do_predict=True, **flags))
    metrics = result["metrics"]
    assert metrics["data"]["train"]["sentences"] == 48 and metrics["eval"]["sentences"] == 16
    rows = [line.split("\t") for line in (run / "dev_split.tsv").read_text().splitlines()]
    assert rows[0] == ["line", "id"] and len(rows) == 17
    every = (data / "eng.train").read_text().split("\n")
    assert all(int(line) == 1 or every[int(line) - 2] == "" for line, _ in rows[1:])
    assert "dev: 16 of 64 sentences of the training file (--dev_split=0.25)" in (
        capsys.readouterr().out
    )
    assert Path(result["predictions"]).name == "predictions.txt"
    used = {"init_checkpoint": result["final_model"], "do_eval": True}
    later = tagging.run(config(data, tmp_path / "later", dev_split=0.25, **used))
    assert later["metrics"]["eval"] == metrics["eval"]
    with pytest.raises(ValueError, match=r"--dev_split=0\.5, but .* was trained with 0\.25"):
        tagging.run(config(data, tmp_path / "later2", dev_split=0.5, **used))


def test_bad_files_are_one_clear_error(trained, tmp_path):
    run, result = trained
    data = shutil.copytree(run.data_dir, tmp_path / "data")
    used = {
        "task_name": run.task_name,
        "text_column": run.text_column,
        "init_checkpoint": result["final_model"],
        "do_predict": True,
    }
    test = next(data.glob("test.*"))
    with pytest.raises(ValueError, match="--labels=O,B-WHO, but .* was trained for O,B-WHAT"):
        tagging.run(config(data, tmp_path / "run", **used, labels="O,B-WHO"))
    test.write_text("")
    with pytest.raises(ValueError, match=str(test)):
        tagging.run(config(data, tmp_path / "run", **used))
