"""The shape of the house: who may import whom, and what must do without TensorFlow."""

import ast
import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

from bert_tf.data.word_segmentation import SEGMENTERS
from bert_tf.distribution import STRATEGIES, precision_policy
from bert_tf.optimization import LR_SCHEDULES, OPTIMIZERS
from bert_tf.run_config import RunConfig
from bert_tf.sentencepiece_tokenization import SentencePieceTokenizer
from bert_tf.tasks.pretraining_data_config import WORD_SEGMENTERS
from bert_tf.tokenization import FullTokenizer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bert_tf"

# Each level imports only from levels above it; modules of one folder may import each other.
LEVELS = [
    ["preemption", "run_config"],
    [
        *("cli", "filesystem", "text_rules", "metrics", "batching", "dropout"),
        *("entity_metrics", "json_numbers", "parallel", "progress", "cluster"),
    ],
    ["schedule", "config", "vocabulary", "wordpiece", "layers", "pooling", "normalizer_buffer"],
    ["base_tokenizer", "encoder", "memory"],
    ["sentencepiece_tokenization", "modeling", "crf", "packing"],
    ["tokenization", "graph_packing", "distribution"],
    ["graph_tokenization"],
    ["graph_tokenizers", "graph_offsets", "graph_windows"],
    ["heads", "optimization", "data", "graph_sentencepiece_offsets"],
    ["checkpoints", "feeding", "keras_optimizer"],
    ["train_step", "fill_mask"],
    ["training", "export", "run_folder", "reporting"],
    ["tasks", "serving"],
]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}


def unit(module: str) -> str:
    """`bert_tf.data.glue` -> `data`: the part of the house that a module belongs to."""
    return module.split(".")[1]


def imported_units(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("bert_tf.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "bert_tf":
            found |= {f"bert_tf.{a.name}" for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bert_tf."):
            found.add(node.module)
    return {unit(module) for module in found}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upward(path):
    if path.name == "__main__.py":  # a command, which nobody imports
        return
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported_units(path) - {own}:
        assert LEVEL_OF[other] < LEVEL_OF[own], f"{own} may not import {other}"


def module(file: str) -> str:
    """`bert_tf/data/glue.py` -> `bert_tf.data.glue`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_modules_without_tensorflow_are_those_that_mypy_checks():
    files = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["files"]
    every = [module(str(path.relative_to(ROOT))) for path in MODULES if path.stat().st_size]
    # A fresh process, in which importing TensorFlow or Keras fails.
    code = (
        "import importlib, sys\n"
        "sys.modules.update({n: None for n in ('tensorflow', 'tensorflow_text', 'keras')})\n"
        f"for name in {every}:\n"
        "    try: importlib.import_module(name); print(name)\n"
        "    except ModuleNotFoundError: pass\n"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert sorted(ran.stdout.split()) == sorted(map(module, files))


def test_choices_of_flags_are_what_there_is():
    choices = {field.name: field.metadata["choices"] for field in dataclasses.fields(RunConfig)}
    assert choices["distribution_strategy"] == tuple(STRATEGIES)
    assert choices["optimizer"] == tuple(OPTIMIZERS)
    assert choices["lr_schedule"] == tuple(LR_SCHEDULES)
    assert tuple(SEGMENTERS) == WORD_SEGMENTERS
    kinds = (FullTokenizer, SentencePieceTokenizer)
    assert choices["tokenization"] == tuple(kind.tokenization for kind in kinds)
    for name in choices["precision"]:
        with precision_policy(name):
            assert keras.config.dtype_policy().name == name


def test_modules_stay_readable():
    # A module of more than 400 lines wants a second look; one of 500 holds two purposes.
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    assert not {p: n for p, n in sizes.items() if n > 500}


def test_functions_fit_a_screen():
    sizes = {
        f"{path.name}:{node.name}": node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert not {name: size for name, size in sizes.items() if size > 70}
