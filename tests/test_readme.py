"""Every command and every piece of Python in the README runs.

The fast ones run here on stand-ins: tiny models under the names that the README downloads, and the
first rows of each example. What needs a network, the real weights or other people's packages is
listed as such, and run by the slow tests.
"""

import dataclasses
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from absl import flags
from squad_golden import recorded_json, unpacked

from bert_tf import checkpoints, cli, heads
from bert_tf.config import BertConfig
from bert_tf.modeling import BertModel
from bert_tf.tasks import (
    classification,
    feature_extraction,
    pretraining,
    pretraining_data,
    question_answering,
    tagging,
)
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.feature_extraction_config import FeatureExtractionConfig
from bert_tf.tasks.pretraining_config import PretrainingConfig
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from bert_tf.tasks.question_answering_config import QuestionAnsweringConfig
from bert_tf.tasks.tagging_config import TaggingConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART, TPU = "bash scripts/quickstart.sh", "bash scripts/lower_to_tpu.sh"
SLOW = (QUICKSTART, TPU)
THIS_SUITE = ("bash scripts/test.sh", "python -m pytest -m slow")
BENCHMARK = "python benchmarks/"
PROGRAMS = {
    "run_classifier.py": (ClassificationConfig, classification.run),
    "run_squad.py": (QuestionAnsweringConfig, question_answering.run),
    "extract_features.py": (FeatureExtractionConfig, feature_extraction.run),
    "run_tagger.py": (TaggingConfig, tagging.run),
    "create_pretraining_data.py": (PretrainingDataConfig, pretraining_data.run),
    "run_pretraining.py": (PretrainingConfig, pretraining.run),
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line
    for block in blocks("bash")
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
FAST = [c for c in COMMANDS if c not in SLOW + THIS_SUITE and not c.startswith(BENCHMARK)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, released_vocab):
    """A project folder as the README's reader has it, with small stand-ins."""
    folder = tmp_path_factory.mktemp("readme")
    for name, vocabulary, layout in (
        ("all-MiniLM-L6-v2", "bert-base-uncased", "huggingface"),
        ("bert_tiny", "bert-base-uncased", "huggingface"),
        ("chinese_L-12_H-768_A-12", "bert-base-chinese", "google"),
    ):
        target = folder / "downloads" / name
        target.mkdir(parents=True)
        vocab_file = released_vocab(vocabulary)
        rows = len(vocab_file.read_bytes().split(b"\n")) - 1
        config = BertConfig(
            rows,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            type_vocab_size=2,
        )
        keras.utils.set_random_seed(1)
        bert = BertModel(config)
        if name == "bert_tiny":
            bert = heads.pretraining(config, next_sentence=False)
        checkpoints.save(bert, f"{target}/", layout, vocab_file=str(vocab_file), do_lower_case=True)
    answers_of_squad(folder)
    entities_of_msra(folder)
    for file in (ROOT / "examples").rglob("*.*"):
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".tsv", ".jsonl") or file.parent.name == "ner_en":
            lines = file.read_text(encoding="utf-8").split("\n")
            kept = 34
            if file.parent.name == "ner_en":  # a word a line; all tags are in the training file
                kept = None if file.stem == "train" else 400
            copy.write_text("\n".join(lines[:kept]) + "\n", encoding="utf-8")
        else:
            shutil.copy(file, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_program(quickstart_arguments())
    return folder


def entities_of_msra(folder):
    """Made sentences in the form of MSRA's files."""
    (folder / "msra").mkdir()
    rows = ["text_a\tlabel", "北 京 很 大\tB-LOC I-LOC O O", "他 是 李 明\tO O B-PER I-PER"]
    for split in ("train", "dev", "test"):
        (folder / "msra" / f"{split}.tsv").write_text("\n".join(rows + rows[1:] * 20) + "\n")


def answers_of_squad(folder):
    """Recorded questions and answers, under the names that the README has for them."""
    for version, name, output in (("v1", "dev-v1.1", "squad"), ("v2", "dev-v2.0", "squad2")):
        document = recorded_json(f"{version}_input")
        # An article a question: there are as many articles as the README's command wants.
        pairs = [(p, qa) for a in document["data"] for p in a["paragraphs"] for qa in p["qas"]]
        document["data"] = [
            {"title": qa["id"], "paragraphs": [{"context": paragraph["context"], "qas": [qa]}]}
            for paragraph, qa in pairs[:48]
        ]
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
        (folder / "output" / output).mkdir(parents=True)
        for file in ("predictions", "null_odds")[: int(version[1])]:
            made = unpacked(f"{version}_{file}", folder)
            shutil.copy(made, folder / "output" / output / f"{file}.json")


def quickstart_arguments():
    """The flags with which scripts/quickstart.sh runs the classifier."""
    script = (ROOT / "scripts" / "quickstart.sh").read_text(encoding="utf-8")
    command = re.search(r"run_classifier\.py (.*?)\"\$@\"", script, re.DOTALL)[1]
    variables = {
        "$model": re.search(r"^model=(.*)$", script, re.MULTILINE)[1],
        "$export": re.search(r"^export=(.+)$", script, re.MULTILINE)[1],
    }
    for name, value in variables.items():
        command = command.replace(name, value)
    return ["run_classifier.py", *shlex.split(command.replace("\\\n", " "))]


def run_program(arguments):
    config_class, run = PROGRAMS[arguments[0]]
    values = flags.FlagValues()
    cli.define_flags(config_class, values)
    values(arguments)
    config = cli.config_from_flags(config_class, values)
    if isinstance(config, PretrainingConfig):  # of the many steps, a few
        few = {"num_train_steps": 4, "num_warmup_steps": 1, "max_eval_steps": 2, "eval_steps": 2}
        few["phase2_num_train_steps"] = min(2, config.phase2_num_train_steps)
        config = dataclasses.replace(config, **few)
    return run(config)


@pytest.mark.parametrize("command", FAST, ids=lambda command: " ".join(command.split()[1:4]))
def test_command(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    program, *arguments = shlex.split(command)
    assert program == "python", f"no test knows how to run: {command}"
    if arguments[:1] == ["-m"]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *arguments], check=True, env=environment)
    elif arguments[0] in PROGRAMS:
        run_program(arguments)
    else:
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile(code, "README.md", "exec"), {})


ELSEWHERE = [
    README,
    *(path.read_text("utf-8") for path in (ROOT / "examples").glob("*/*.yaml")),
    *(path.read_text("utf-8") for path in (ROOT / "examples").glob("*/*.sbatch")),
]
ELSEWHERE_COMMANDS = [
    command
    for text in ELSEWHERE
    for command in re.findall(r"python (run_\w+\.py (?:.*\\\n)*.*)", text)
    if any(x in command for x in ("--distribution_strategy", "--use_tpu", "downloads/MODEL"))
]


@pytest.mark.parametrize("command", ELSEWHERE_COMMANDS)
def test_commands_for_other_machines_have_flags_that_fit_together(command):
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    values = flags.FlagValues()
    cli.define_flags(PROGRAMS[program][0], values)
    values([program, *arguments])
    cli.config_from_flags(PROGRAMS[program][0], values)


@pytest.mark.slow
def test_lowering_to_tpu(tmp_path):
    """From a fresh clone; needs the package registry."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    ran = subprocess.run(
        shlex.split(TPU), cwd=tmp_path / "clone", check=True, capture_output=True, text=True
    )
    assert ran.stdout.count("host transfers: none") == 16


@pytest.mark.slow
def test_quickstart(tmp_path):
    """From a fresh clone, as the README says; needs the package registry."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    outputs = [
        subprocess.run(
            shlex.split(QUICKSTART),
            cwd=tmp_path / "clone",
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert "== Making .venv" in outputs[0] and "== Getting the weights" in outputs[0]
    # The second run reuses what is there.
    assert "== Making .venv" not in outputs[1] and "== Getting the weights" not in outputs[1]
    assert "Training has already finished" in outputs[1]
    assert all("label:" in output for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(BENCHMARK)])
def test_benchmark(command):
    subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, check=True)
