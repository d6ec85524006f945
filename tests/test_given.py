"""Paths and values of flags are checked before anything is computed, in every program."""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from absl import flags

from bert_tf import checkpoints, cli, filesystem
from bert_tf.checkpoints import given
from bert_tf.data import corpora, sentence_lines, text_files
from bert_tf.export.export_config import ExportConfig
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.feature_extraction_config import FeatureExtractionConfig
from bert_tf.tasks.pretraining_config import PretrainingConfig
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from bert_tf.tasks.question_answering_config import QuestionAnsweringConfig
from bert_tf.tasks.tagging_config import TaggingConfig

ROOT = Path(__file__).parent.parent
TINY = Path(__file__).parent / "tiny"
MODEL = {"bert_config_file": str(TINY / "bert_config.json"), "vocab_file": str(TINY / "vocab.txt")}
TRAINED = MODEL | {"output_dir": "/tmp/nowhere/out", "do_train": True}
# Every program, with flags of which each fits.
PROGRAMS = {
    ClassificationConfig: TRAINED
    | {"task_name": "csv", "data_dir": str(TINY / "own"), "text_a_column": "text"},
    QuestionAnsweringConfig: TRAINED | {"train_file": "x", "version_2_with_negative": True},
    TaggingConfig: TRAINED | {"task_name": "conll", "data_dir": "x", "use_crf": True},
    PretrainingConfig: TRAINED
    | {"input_file": __file__, "phase2_input_file": __file__, "phase2_num_train_steps": 1},
    PretrainingDataConfig: {
        "input_file": __file__,
        "output_file": "/tmp/x",
        "vocab_file": MODEL["vocab_file"],
    },
    FeatureExtractionConfig: {"input_file": __file__, "output_file": "x", "init_checkpoint": "x"},
    ExportConfig: {"checkpoint": "x", "export_dir": "x"},
}
# Flags whose negative values mean something.
MAY_BE_NEGATIVE = {"null_score_diff_threshold", "word_column", "tag_column"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_impossible_values_are_refused(program):
    defaults = PROGRAMS[program]
    program(**defaults)
    kinds = typing.get_type_hints(program)
    for field in dataclasses.fields(program):
        kind = cli._value_type(kinds[field.name])
        values = {float: [math.nan, math.inf, -math.inf], str: [""], int: []}.get(kind, [])
        if kind in (int, float) and field.name not in MAY_BE_NEGATIVE:
            values = [*values, kind(-1)]
        if kind is str and not field.name.endswith(("_dir", "_file", "checkpoint")):
            continue
        if program is PretrainingDataConfig and field.name == "random_seed":
            continue  # Python's generator takes any
        for value in values:
            with pytest.raises(ValueError, match=f"--{field.name}="):
                program(**defaults | {field.name: value})


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_learning_rate_must_be_above_0(rate):
    with pytest.raises(ValueError, match=f"--learning_rate={rate}: give more than 0"):
        ClassificationConfig(**PROGRAMS[ClassificationConfig], learning_rate=rate)


def test_an_ending_that_says_another_format():
    flags = PROGRAMS[FeatureExtractionConfig] | {"output_file": "v.npy"}
    with pytest.raises(ValueError, match="--output_file=v.npy would hold jsonl; add --output_form"):
        FeatureExtractionConfig(**flags)
    FeatureExtractionConfig(**flags, output_format="npy")


def test_home_is_put_into_paths_only(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    values = flags.FlagValues()
    cli.define_flags(ClassificationConfig, values)
    given = ["--output_dir=~/x", "--init_checkpoint=~", "--text_a_column=~/x", "--do_train"]
    values(["program", *given, "--task_name=csv", "--data_dir=a~"])
    config = cli.config_from_flags(ClassificationConfig, values)
    assert (config.output_dir, config.init_checkpoint) == ("/home/ada/x", "/home/ada")
    assert (config.text_a_column, config.data_dir) == ("~/x", "a~")
    assert cli.path("a,~/b") == "a,/home/ada/b"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"vocab_file": "/nowhere/v"}, "--vocab_file=/nowhere/v: there is no such file"),
        ({"vocab_file": str(TINY)}, "--vocab_file=.*tiny is no file"),
        ({"bert_config_file": __file__}, "--bert_config_file=.*test_given.py: .* "),
        ({"output_dir": __file__}, "--output_dir=.*: .*test_given.py is a file, not a folder"),
        ({"output_dir": f"{__file__}/x/y"}, "--output_dir=.*test_given.py is a file, not a folder"),
        ({"export_dir": __file__}, "--export_dir=.*test_given.py is a file, not a folder"),
        ({"init_checkpoint": "bert-base-uncased"}, "hf download bert-base-uncased --local-dir"),
        ({"init_checkpoint": str(TINY)}, "--init_checkpoint=.*: there are no weights"),
        (dict.fromkeys(MODEL), "--init_checkpoint is needed, which training starts from; or"),
    ],
)
@pytest.mark.parametrize("program", [ClassificationConfig, PretrainingConfig])
def test_bad_paths_are_told(program, flags, message):
    with pytest.raises(ValueError, match=message):
        program(**PROGRAMS[program] | flags).check_inputs()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="nothing can be written into"):
        given.check_folder("--output_dir=x", str(tmp_path / "x"))


def test_a_continued_run_needs_its_init_checkpoint_no_more(tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n')
    flags = PROGRAMS[ClassificationConfig] | {"init_checkpoint": "/gone"}
    ClassificationConfig(**flags | {"output_dir": str(tmp_path)}).check_inputs()


@pytest.mark.parametrize("name", ["model.safetensors", "bert_model.ckpt.index", "vocab.txt"])
def test_a_pointer_of_git_lfs_is_told(tmp_path, name):
    file = tmp_path / name
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ValueError, match=f"{name} is a pointer of git-lfs.*`git lfs pull` in"):
        if name == "vocab.txt":
            flags = PROGRAMS[PretrainingConfig] | {"vocab_file": str(file)}
            PretrainingConfig(**flags).check_inputs()
        else:
            checkpoints.locate(tmp_path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"PK\x03\x04", "a ZIP archive, such as a spreadsheet (.xlsx, .ods)"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old file of Excel"),
        (b"\x1f\x8b\x08", "compressed by gzip; unpack it"),
    ],
)
def test_a_spreadsheet_that_is_called_csv(tmp_path, start, message):
    path = str(tmp_path / "train.csv")
    Path(path).write_bytes(start + b"\n" * 9)
    for read in (
        text_files.read_text,
        lambda path: list(sentence_lines.read(path)),
        lambda path: list(corpora.Corpus([path], "text").documents()),
    ):
        with pytest.raises(ValueError) as error:
            read(path)
        assert path in str(error.value) and message in str(error.value)


def test_disks_are_asked_once_for_all_folders(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    needs = {str(tmp_path / "a" / "b"): 1_500_000_000, "gs://bucket/x": 10**15}
    filesystem.check_space(needs, "or wait")
    with pytest.raises(OSError, match=r"up to 2.5 GB, but only 2.0 GB are free .*, or wait"):
        filesystem.check_space(needs | {str(tmp_path): 1_000_000_000}, "or wait")


def test_a_bad_path_is_told_before_tensorflow_is_loaded(tmp_path):
    for script, config in (
        ("run_classifier.py", ClassificationConfig),
        ("create_pretraining_data.py", PretrainingDataConfig),
        ("extract_features.py", FeatureExtractionConfig),
    ):
        flags = PROGRAMS[config] | {"vocab_file": "/nowhere/v"}
        code = (
            "import runpy, sys; sys.modules['tensorflow'] = None; del sys.argv[0]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [sys.executable, "-c", code, script]
        command += [f"--{name}={value}" for name, value in flags.items()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stderr == "Error: --vocab_file=/nowhere/v: there is no such file\n", script
