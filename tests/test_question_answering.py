"""Question answering as people use it: one command on files, and what it leaves behind."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import training_options
from exporting import exporting_only

from bert_tf import checkpoints
from bert_tf.data import squad, squad_files
from bert_tf.data.records import RecordFile, span_spec
from bert_tf.export import program as export_program
from bert_tf.export.export_config import ExportConfig
from bert_tf.tasks import question_answering
from bert_tf.tasks.question_answering_config import QuestionAnsweringConfig

TINY = Path(__file__).parent / "tiny"
FILES = {
    "bert_config_file": str(TINY / "bert_config.json"),
    "vocab_file": str(TINY / "vocab.txt"),
}
V2 = {"version_2_with_negative": True}
WORDS = ("film", "book", "plot", "actor", "story")
REST = " ".join(["and we never read that book today"] * 4)  # makes it several windows


def write_questions(path, version_2=False):
    """Who saw what: a word that follows "saw"; in version 2 every third question has no answer."""
    qas_id, articles = 0, []
    for person in ("i", "he", "she", "we", "they"):
        paragraphs = []
        for word in WORDS:
            impossible = version_2 and qas_id % 3 == 2
            verb = "liked" if impossible else "saw"
            context = f"today {person} {verb} the {word} . {REST if qas_id % 5 == 1 else ''}"
            answers = [{"text": word, "answer_start": context.index(word)}]
            qa = {
                "id": f"q{qas_id}",
                "question": f"what is it that {person} saw ?",
                "answers": [] if impossible else answers,
            }
            qas_id += 1
            qa |= {"is_impossible": impossible} if version_2 else {}
            paragraphs.append({"context": context, "qas": [qa]})
        articles.append({"title": person, "paragraphs": paragraphs})
    path.write_text(json.dumps({"data": articles, "version": "tiny"}), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file in the form of SQuAD 1.1 and one of 2.0."""
    folder = tmp_path_factory.mktemp("questions")
    return {False: write_questions(folder / "1.json"), True: write_questions(folder / "2.json", 1)}


def config(output_dir, file, **changes):
    values = {
        "train_file": file,
        "predict_file": file,
        "output_dir": str(output_dir),
        "max_seq_length": 32,
        "max_query_length": 12,
        "doc_stride": 8,
        "max_answer_length": 4,
        "n_best_size": 5,
        "train_batch_size": 5,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        **FILES,
    }
    return QuestionAnsweringConfig(**values | changes)


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[False, True], ids=["v1", "v2"])
def trained(request, tmp_path_factory, files):
    """One whole run: train, evaluate, predict, and in version 1 export."""
    folder, version_2 = tmp_path_factory.mktemp("squad"), request.param
    run = config(
        folder,
        files[version_2],
        do_train=True,
        do_eval=True,
        do_predict=True,
        export_dir=None if version_2 else str(folder / "export"),
        num_train_epochs=24,
        version_2_with_negative=version_2,
    )
    return run, question_answering.run(run), folder


def test_it_learns_and_its_scores_are_those_of_its_predictions(trained):
    run, result, _ = trained
    scores, predictions = result["metrics"]["eval"], read(result["predictions"])
    assert scores["f1"] > 70  # always to answer gives 68 in version 2
    dataset = squad_files.read(run.predict_file)
    official = squad.scores(dataset, predictions)
    assert scores["f1"] == official["f1"]
    assert scores["exact"] == official.get("exact", official.get("exact_match"))
    assert (scores["examples"], len(predictions)) == (25, 25)
    lines = Path(result["eval_results"]).read_text().splitlines()
    values = dict(line.split(" = ") for line in lines)
    assert float(values["f1"]) == scores["f1"]
    assert int(values["global_step"]) == result["metrics"]["global_step"]
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert f"f1 <strong>{scores['f1']:.4f}</strong>" in page.partition("<nav")[0]
    assert "Answers</h2>" in page and result["metrics"]["collapsed"] is None


def test_google_files(trained):
    run, result, folder = trained
    nbest = read(result["nbest_predictions"])
    keys = ["text", "probability", "start_logit", "end_logit"]
    assert all(list(entry) == keys for entries in nbest.values() for entry in entries)
    assert result.get("null_odds", "").endswith("null_odds.json") == run.version_2_with_negative
    train = RecordFile(str(folder / "train.tf_record"), span_spec(32, is_training=True))
    dev = RecordFile(str(folder / "eval.tf_record"), span_spec(32, is_training=False))
    metrics = result["metrics"]
    assert len(train) == metrics["data"]["train"]["windows"] > 25
    assert len(dev) == metrics["eval"]["windows"] == len(train)
    # Steps are counted from questions, not from windows.
    assert metrics["train"]["examples"] == 25
    assert metrics["train"]["steps"] == 25 * 24 // 5


def test_predicting_later_gives_the_same(trained, tmp_path):
    """From final_model alone, whose task.json has the threshold that evaluation found."""
    run, result, folder = trained
    task = checkpoints.saved_task(result["final_model"])
    assert task == checkpoints.saved_task(str(folder))
    assert task["task_type"] == "question_answering"
    later = config(
        tmp_path,
        run.predict_file,
        do_predict=True,
        train_file=None,
        init_checkpoint=result["final_model"],
        bert_config_file=None,
        vocab_file=None,
        version_2_with_negative=run.version_2_with_negative,
    )
    again = question_answering.run(later)
    assert read(again["predictions"]) == read(result["predictions"])
    if not run.version_2_with_negative:
        return
    found = result["metrics"]["eval"]
    assert task["null_score_diff_threshold"] == found["best_f1_thresh"]
    assert found["f1"] == found["best_f1"]
    odds = read(result["null_odds"])
    without = {qas_id for qas_id, text in read(result["predictions"]).items() if not text}
    assert without == {q for q, value in odds.items() if value > found["best_f1_thresh"]}
    shutil.copytree(folder, tmp_path / "never")
    never = question_answering.run(
        config(
            tmp_path / "never",
            run.predict_file,
            do_eval=True,
            do_predict=True,
            version_2_with_negative=True,
            null_score_diff_threshold=-1e9,
        )
    )
    assert set(read(never["predictions"]).values()) == {""}
    assert never["metrics"]["eval"]["exact"] == pytest.approx(100 * 8 / 25)
    assert checkpoints.saved_task(str(tmp_path / "never")) == task  # given, not found


def test_predicting_needs_no_answers(trained, tmp_path):
    run, result, _ = trained
    document = read(run.predict_file)
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                qa.pop("answers")
                qa.pop("is_impossible", None)
    path = tmp_path / "unanswered.json"
    path.write_text(json.dumps(document))
    flags = {"train_file": None, "init_checkpoint": result["final_model"]}
    flags |= {"bert_config_file": None, "vocab_file": None}
    flags["version_2_with_negative"] = run.version_2_with_negative
    later = config(tmp_path / "out", str(path), do_predict=True, **flags)
    assert read(question_answering.run(later)["predictions"]) == read(result["predictions"])
    with pytest.raises(ValueError, match="unanswered.json: .* no answer to compare with; for --do"):
        dataclasses.replace(later, do_eval=True).check_inputs()


def test_batches_of_any_size_and_padding_give_the_same(trained, tmp_path):
    """Evaluation had batches of 8 rows, as long as the longest."""
    run, result, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    version_2 = run.version_2_with_negative
    flags = {"predict_batch_size": 25}
    if version_2:
        flags = {"predict_batch_size": 3, "pad_to_max_seq_length": True, **V2}
    again = question_answering.run(
        config(tmp_path / "run", run.predict_file, do_predict=True, **flags)
    )
    assert read(again["predictions"]) == read(result["predictions"])
    before = read(result["nbest_predictions"])
    for name, entries in read(again["nbest_predictions"]).items():
        assert [e["start_logit"] for e in entries] == pytest.approx(
            [e["start_logit"] for e in before[name]], abs=1e-4
        )


def served(path, questions):
    """What `serving_default` answers: a dict for each question."""
    signature = tf.saved_model.load(path).signatures["serving_default"]
    texts = {
        "question": tf.constant([question.text for question in questions]),
        "context": tf.constant([question.passage.text for question in questions]),
    }
    columns = {name: value.numpy().tolist() for name, value in signature(**texts).items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_the_export_answers_as_the_program_predicts(trained, tmp_path):
    """The one of the run, or one made later from final_model, with the saved settings."""
    run, result, _ = trained
    path = result.get("export")
    assert bool(path) != run.version_2_with_negative
    if not path:
        flags = {"checkpoint": result["final_model"], "export_dir": str(tmp_path)}
        path = export_program.run(ExportConfig(**flags))
    questions = squad_files.read(run.predict_file).questions
    predictions = read(result["predictions"])
    rows = served(path, questions)
    for question, row in zip(questions, rows, strict=True):
        answer = row["answer"].decode()
        assert answer == question.passage.text[row["start"] : row["end"]]
        if run.version_2_with_negative:
            odds = read(result["null_odds"])[question.qas_id]
            assert row["null_odds"] == pytest.approx(odds, abs=1e-4)
            if abs(odds - result["metrics"]["eval"]["best_f1_thresh"]) < 1e-4:
                continue  # the one that the threshold was taken from
        assert answer == predictions[question.qas_id]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_exports_in_less_than_float32_are_measured(trained, tmp_path, precision):
    """In float32 the card says what the evaluation said."""
    run, result, _ = trained
    later = exporting_only(run, result, tmp_path, precision)
    path = question_answering.run(later)["export"]
    card = (Path(path) / "README.md").read_text()
    row = re.search(r"^\| f1 \| ([\d.]+) \| ([\d.]+) \|$", card, re.MULTILINE)
    assert float(row[1]) == pytest.approx(result["metrics"]["eval"]["f1"], abs=1e-4)
    assert 0 <= float(row[2]) <= 100
    with pytest.raises(ValueError, match="give it"):
        dataclasses.replace(later, predict_file=None)


def test_sentencepiece_from_file_to_export(tmp_path, files, spm_models):
    """The graph's pieces and characters are those of Python: the export was compared."""
    shape = read(TINY / "bert_config.json") | {"vocab_size": 3000}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    flags = {
        "vocab_file": None,
        "spm_model_file": str(spm_models["unigram"]),
        "bert_config_file": str(tmp_path / "bert_config.json"),
        "max_seq_length": 48,
        "max_query_length": 24,
        "do_train": True,
        "do_predict": True,
        "export_dir": str(tmp_path / "export"),
    }
    result = question_answering.run(config(tmp_path / "run", files[False], **flags))
    predictions = read(result["predictions"])
    questions = squad_files.read(files[False]).questions
    for question, row in zip(questions, served(result["export"], questions), strict=True):
        answer = row["answer"].decode()
        assert answer == question.passage.text[row["start"] : row["end"]]
        assert answer == predictions[question.qas_id]


def weights(folder):
    reader = tf.train.load_checkpoint(str(Path(folder) / "final_model" / "bert_model.ckpt"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_training_rows_are_as_long_as_googles(tmp_path, files):
    """Google's loss counts padding: padded by flag or not, training is the same."""
    short = {"do_train": True, "num_train_epochs": 0.6}
    for name, changes in (("own", {}), ("padded", {"pad_to_max_seq_length": True})):
        question_answering.run(config(tmp_path / name, files[False], **short, **changes))
    own, padded = weights(tmp_path / "own"), weights(tmp_path / "padded")
    for name, value in own.items():
        np.testing.assert_allclose(value, padded[name], atol=2e-5, err_msg=name)


def test_an_epoch_can_count_windows(tmp_path, files, capsys):
    """One step of all windows; one of as many as there are questions is said to be less."""
    flags = {"do_train": True, "num_train_epochs": 1, "train_batch_size": 25}
    googles = question_answering.run(config(tmp_path / "questions", files[False], **flags))
    counts = googles["metrics"]["data"]["train"]
    windows = counts["windows"]
    assert windows > 25 and googles["metrics"]["train"]["examples"] == 25
    said = f"--num_train_epochs=1 counts 25 questions, as Google's program does: {25 / windows:.2f}"
    assert said in capsys.readouterr().out
    flags |= {"epoch_unit": "windows", "train_batch_size": windows}
    whole = question_answering.run(config(tmp_path / "windows", files[False], **flags))
    assert whole["metrics"]["train"]["examples"] == windows
    assert whole["metrics"]["train"]["steps"] == 1
    assert "--num_train_epochs=1 counts" not in capsys.readouterr().out


def test_every_option_of_training_and_an_interruption(tmp_path, files, interrupt, capsys):
    def run(folder):
        flags = training_options.FLAGS | {"gradient_accumulation_steps": 5}
        return question_answering.run(config(folder, files[True], **flags, **V2))

    written = ("eval_results", "predictions", "nbest_predictions", "null_odds")
    training_options.check(run, tmp_path, written, interrupt, capsys)


def write_chinese(path):
    """In the form of DRCD; of a word that occurs twice, the second is the answer."""
    articles = []
    for number, (word, other) in enumerate([("电影", "书"), ("书", "电影"), ("戏", "书")] * 2):
        context = f"人人都说{word}好看，{other}不好看。昨天他也看了{word}，今天没有看。"
        answer = {"id": "1", "text": word, "answer_start": context.rindex(word)}
        qa = {"id": f"q{number}", "question": "他昨天看了什么？", "answers": [answer] * 2}
        qa["answers"] = qa["answers"][: 1 + (path.stem == "dev")]
        paragraph = {"id": str(number), "context": context, "qas": [qa]}
        articles.append({"id": str(number), "title": word, "paragraphs": [paragraph]})
    path.write_text(json.dumps({"version": "1.3", "data": articles}), encoding="utf-8")
    return str(path)


def test_chinese_and_google_exact_from_file_to_answers(tmp_path, released_vocab):
    """The rows have the annotated place, or the first one, where Google's program looks for it."""
    vocab = released_vocab("bert-base-chinese")
    shape = read(TINY / "bert_config.json") | {"vocab_size": len(vocab.read_text().split("\n")) - 1}
    (tmp_path / "bert_config.json").write_text(json.dumps(shape))
    train, dev = (write_chinese(tmp_path / f"{name}.json") for name in ("train", "dev"))
    flags = {
        "vocab_file": str(vocab),
        "bert_config_file": str(tmp_path / "bert_config.json"),
        "train_file": train,
        "max_seq_length": 64,
        "do_train": True,
        "do_eval": True,
        "do_predict": True,
    }
    positions = {}
    for exact in (False, True):
        folder = tmp_path / str(exact)
        result = question_answering.run(config(folder, dev, google_exact=exact, **flags))
        rows = RecordFile(str(folder / "train.tf_record"), span_spec(64, is_training=True))
        batch = rows.batch(np.arange(len(rows)))
        assert len(rows) == result["metrics"]["eval"]["windows"] == 6
        positions[exact] = [
            tuple(ids[start : end + 1])
            for ids, (start,), (end,) in zip(
                *(batch[n] for n in ("input_ids", "start_positions", "end_positions")), strict=True
            )
        ]
        starts = batch["start_positions"][:, 0]
        assert (starts < 20).all() if exact else (starts > 20).all()
        predictions = read(result["predictions"])
        official = squad.scores(squad_files.read(dev), predictions)
        scores = result["metrics"]["eval"]
        assert [scores["exact"], scores["f1"]] == [float(official[name]) for name in ("EM", "F1")]
        assert official.keys() >= {"EM", "F1", "AVERAGE"}  # by characters
    assert positions[True] == positions[False]  # the same word


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "At least one of"),
        ({"do_train": True, "train_file": None}, "--train_file is needed"),
        ({"do_eval": True, "predict_file": None}, "--predict_file is needed"),
        ({"do_predict": True, "predict_file": None}, "--predict_file is needed"),
        ({"do_predict": True, "max_query_length": 29}, "--max_seq_length=32 must be greater"),
        ({"do_predict": True, "doc_stride": 0}, "--doc_stride=0 must be 1 or more"),
        ({"do_predict": True, "n_best_size": 0}, "--n_best_size=0 must be 1 or more"),
        ({"do_predict": True, "null_score_diff_threshold": 1.0}, "--version_2_with_negative"),
        ({"do_predict": True}, "holds no checkpoint; train first"),
        ({"do_train": True, "max_seq_length": 65}, "exceeds this model's 64 positions"),
        ({"do_train": True, "num_train_epochs": 0.1}, "make no step"),
        ({"do_train": True, "train_file": "missing.json"}, "missing.json"),
        (
            {"do_train": True, "export_dir": "x", "keep_special_tokens": True},
            "a model with --keep_special_tokens cannot be exported",
        ),
    ],
)
def test_bad_flags(changes, message, tmp_path, files):
    with pytest.raises(ValueError, match=message):
        question_answering.run(config(tmp_path, files[False], **changes))


def test_bad_files(tmp_path, files):
    document = read(files[False])
    document["data"][1]["paragraphs"][0]["qas"][0]["answers"] = []
    path = tmp_path / "unanswered.json"
    path.write_text(json.dumps(document))
    for flags in ({"do_eval": True}, {"do_train": True}):
        refused = config(tmp_path / "out", str(path), **flags)
        for check in (refused.check_inputs, lambda: question_answering.run(refused)):  # noqa: B023
            with pytest.raises(ValueError, match=r"unanswered.json: article 'he', question 'q5'"):
                check()
    document["data"] = [{"title": "x", "paragraphs": [{"context": " ", "qas": []}]}]
    document["data"][0]["paragraphs"][0]["qas"] = [{"id": "1", "question": "?", "answers": []}]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="question 'q2'.*--version_2_with_negative=true"):
        question_answering.run(config(tmp_path / "out2", files[True], do_train=True))
    with pytest.raises(ValueError, match="question '1': there is no answer"):
        question_answering.run(config(tmp_path / "out3", str(path), do_eval=True))


@pytest.mark.parametrize("flags", [{"do_predict": True}, {"export_dir": "export"}])
def test_bad_files_to_predict_are_told_before_training(flags, tmp_path, files):
    path = tmp_path / "predict.json"
    run = config(tmp_path / "out", files[False], predict_file=str(path), do_train=True, **flags)
    with pytest.raises(ValueError, match=r"--predict_file: .*predict.json: cannot be read"):
        run.check_inputs()
    path.write_text('{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": "1"}]}]}]}')
    with pytest.raises(ValueError, match=r"predict.json: .*question '1': 'question' is missing"):
        question_answering.run(run)
    document = {"context": " ", "qas": [{"id": "1", "question": "?"}]}
    path.write_text(json.dumps({"data": [{"paragraphs": [document]}]}))
    with pytest.raises(ValueError, match=r"predict.json: all passages are empty"):
        question_answering.run(dataclasses.replace(run))
    assert not list((tmp_path / "out").glob("*ckpt*"))
