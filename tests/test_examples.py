"""The tasks in examples/: read as run_classifier.py reads them, whole and without leaks."""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bert_tf import filesystem
from bert_tf.data.delimited import DelimitedTask
from bert_tf.data.examples import SPLITS, InputExample
from bert_tf.data.tag_schemes import repairs
from bert_tf.data.tagged_text import read_conll
from bert_tf.data.tagging import TaggingTask
from bert_tf.data.text_files import BadRows
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.pretraining_config import PretrainingConfig

EXAMPLES = Path(__file__).parent.parent / "examples"
FOLDERS = ("spam", "drcd_zh")
LABELS = {
    ("spam", "train"): {"ham": 96, "spam": 64},
    ("spam", "dev"): {"ham": 24, "spam": 16},
    ("drcd_zh", "train"): {"answer": 600, "no_answer": 600},
    ("drcd_zh", "dev"): {"answer": 150, "no_answer": 150},
}


def readme_config(folder: str) -> ClassificationConfig:
    """What the command for this folder in examples/README.md asks for."""
    commands = re.findall(
        r"```bash\n(.*?)```", (EXAMPLES / "README.md").read_text("utf-8"), re.DOTALL
    )
    (command,) = (text for text in commands if f"--data_dir=examples/{folder} " in text)
    flags = dict(re.findall(r"--(\w+)=(\S+)", command))
    return ClassificationConfig(**{k: v == "true" or v for k, v in flags.items()})


def task(folder: str) -> DelimitedTask:
    config = readme_config(folder)
    return DelimitedTask(
        kind=config.task_name,
        text_a_column=config.text_a_column,
        text_b_column=config.text_b_column,
        label_column=config.label_column,
        id_column=config.id_column,
    )


def pretraining_flags(command: str) -> PretrainingConfig:
    flags = {name: value.strip("'\"") for name, value in re.findall(r"--(\w+)=(\S+)", command)}
    numbers = {name: int(value) for name, value in flags.items() if value.isdigit()}
    return PretrainingConfig(**flags | numbers | {"do_train": flags["do_train"] == "true"})


def test_the_image_of_the_kubernetes_manifest_holds_its_program() -> None:
    manifest = (EXAMPLES / "kubernetes" / "pretraining.yaml").read_text()
    image = (EXAMPLES / "kubernetes" / "Dockerfile").read_text()
    (tag,) = re.findall(r"docker build -t (\S+) ", image)
    assert f"image: {tag}:latest" in manifest
    (program,) = re.findall(r"python (\w+\.py) ", manifest)
    (copied,) = re.findall(r"cp /source/(\S+) \.", image)
    assert "COPY . /source\nWORKDIR" in image
    assert (EXAMPLES.parent / program) in EXAMPLES.parent.glob(copied)
    assert program not in (EXAMPLES.parent / ".dockerignore").read_text()
    assert pretraining_flags(manifest).distribution_strategy == "multi_worker_mirrored"


def test_the_slurm_script_says_what_is_missing(tmp_path) -> None:
    """With Slurm's two commands replaced by ones that show what they are asked."""
    script = str(EXAMPLES / "slurm" / "pretraining.sbatch")
    for name, code in (("srun", 75), ("scontrol", 0)):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\nexit {code}\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}

    def submit(**more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [shutil.which("bash"), script],
            **{"cwd": tmp_path, "env": environment | more, "capture_output": True, "text": True},
        )

    without_data = submit()
    assert without_data.returncode != 0 and not without_data.stdout
    assert "DATA: is not set: give the folder that holds rows/" in without_data.stderr
    elsewhere = submit(DATA="/shared/wiki")
    assert elsewhere.returncode == 1 and not elsewhere.stdout
    assert "submit from the project's root" in elsewhere.stderr
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    preempted = submit(DATA="/shared/wiki")
    assert preempted.returncode == 75
    command, requeued = preempted.stdout.splitlines()
    assert requeued == "scontrol requeue 7"
    assert pretraining_flags(command).output_dir == "/shared/wiki/output"


@functools.cache
def read(folder: str) -> dict[str, list[InputExample]]:
    return {split: task(folder).examples(str(EXAMPLES / folder), split) for split in SPLITS}


def test_a_file_is_read_once_for_its_examples_and_complains_once(monkeypatch, caplog, tmp_path):
    reads = []
    read_bytes = filesystem.read_bytes
    monkeypatch.setattr(filesystem, "read_bytes", lambda p: reads.append(p) or read_bytes(p))
    for split in ("train", "dev"):
        text = 'text\tlabel\n"he said ""no"""\ta\nyes\tb\n'
        (tmp_path / f"{split}.tsv").write_text(text)
    own = DelimitedTask(kind="tsv", text_a_column="text")
    own = dataclasses.replace(own, classes=tuple(own.labels(str(tmp_path))))
    for split in ("train", "dev"):
        own.examples(str(tmp_path), split)
    assert [Path(path).name for path in reads] == ["train.tsv", "train.tsv", "dev.tsv"]
    assert caplog.text.count("train.tsv: cells in double quotes") == 1


def texts(examples: list[InputExample]) -> set[str]:
    both = [text for example in examples for text in (example.text_a, example.text_b) if text]
    return {" ".join(text.lower().split()) for text in both}


@pytest.mark.parametrize("folder", ("mnli", *FOLDERS))
def test_readme_command_trains_evaluates_and_predicts(folder: str) -> None:
    config = readme_config(folder)
    assert config.do_train and config.do_eval and config.do_predict
    assert (EXAMPLES.parent / config.data_dir).is_dir()


@pytest.mark.parametrize(("folder", "split"), LABELS)
def test_labels(folder: str, split: str) -> None:
    counts = Counter(example.label for example in read(folder)[split])
    assert counts == LABELS[folder, split]


@pytest.mark.parametrize(("folder", "rows"), [("spam", 40), ("drcd_zh", 300)])
def test_the_test_split_hides_its_labels(folder: str, rows: int) -> None:
    assert len(read(folder)["test"]) == rows
    path = task(folder).path(str(EXAMPLES / folder), "test")
    with pytest.raises(ValueError, match="column 'label' is missing"):
        list(task(folder).rows(path, "dev", BadRows()))  # a dev split is read with its labels


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_stands_in_two_splits(folder: str) -> None:
    splits = read(folder)
    ids = Counter(example.guid for examples in splits.values() for example in examples)
    assert set(ids.values()) == {1}
    train, dev, test = (texts(splits[split]) for split in SPLITS)
    assert not train & dev
    assert not train & test
    assert not dev & test


def test_articles_stand_in_one_split() -> None:
    train, dev, test = (
        {example.guid.split("-")[0] for example in examples}
        for examples in read("drcd_zh").values()
    )
    assert train.isdisjoint(dev | test)
    assert dev.isdisjoint(test)


def test_every_drcd_question_is_asked_of_an_answer_and_of_another_sentence() -> None:
    for examples in (read("drcd_zh")[split] for split in ("train", "dev")):
        for first, second in zip(examples[::2], examples[1::2], strict=True):
            assert first.text_a == second.text_a
            assert first.text_b != second.text_b
            assert {first.label, second.label} == {"answer", "no_answer"}


def test_every_spam_split_has_commas_quotes_and_line_breaks_inside_a_message() -> None:
    for examples in read("spam").values():
        messages = [example.text_a for example in examples]
        assert len(set(messages)) == len(messages)
        for character in ',"\n':
            assert any(character in message for message in messages)


@pytest.mark.parametrize(
    ("folder", "licence"),
    [("spam", "Apache-2.0"), ("drcd_zh", "CC BY-SA 3.0"), ("ner_en", "CC BY-SA 4.0")],
)
def test_licence_is_stated(folder: str, licence: str) -> None:
    assert licence in (EXAMPLES / folder / "NOTICE").read_text(encoding="utf-8")


def test_sentences_with_entities() -> None:
    task, folder = TaggingTask("conll"), str(EXAMPLES / "ner_en")
    splits = {s: list(read_conll(task.path(folder, s))) for s in SPLITS}
    assert [len(sentences) for sentences in splits.values()] == [800, 200, 200]
    tag_set = task.tag_set(task.path(folder, "train"))
    kinds = {"DATE", "MONEY", "PEOPLE", "PERCENT", "PLACE", "QUANTITY"}
    assert (tag_set.scheme, {label[2:] for label in tag_set.labels} - {""}) == ("IOB2", kinds)
    for sentences in splits.values():
        for sentence in sentences:
            tag_set.to_labels(sentence.tags)
            assert repairs(sentence.tags, "IOB2") == 0
    words = Counter(s.words for sentences in splits.values() for s in sentences)
    assert set(words.values()) == {1}
