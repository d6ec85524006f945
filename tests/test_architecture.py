"""The shape of the house: who may import whom, and what must do without TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bert_tf"

# Each level imports only from levels above it; modules of one folder may import each other.
LEVELS = [
    ["filesystem", "text_rules", "metrics", "run_config", "batching", "dropout"],
    ["config", "vocabulary", "wordpiece", "layers", "pooling", "normalizer_buffer"],
    ["tokenization"],
    ["modeling", "graph_tokenization", "packing", "distribution"],
    ["heads", "optimization", "data"],
    ["checkpoints"],
    ["training", "export", "run_folder"],
    ["tasks"],
    ["cli"],
]
WITHOUT_TENSORFLOW = [
    "bert_tf",
    "bert_tf.batching",
    "bert_tf.cli",
    "bert_tf.config",
    "bert_tf.data.delimited",
    "bert_tf.data.examples",
    "bert_tf.data.glue",
    "bert_tf.data.text_files",
    "bert_tf.filesystem",
    "bert_tf.metrics",
    "bert_tf.packing",
    "bert_tf.run_config",
    "bert_tf.tasks.classification_config",
    "bert_tf.tasks.result_files",
    "bert_tf.text_rules",
    "bert_tf.tokenization",
    "bert_tf.vocabulary",
    "bert_tf.wordpiece",
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
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported_units(path) - {own}:
        assert LEVEL_OF[other] < LEVEL_OF[own], f"{own} may not import {other}"


def test_modules_that_do_without_tensorflow():
    # A fresh process, in which importing TensorFlow or Keras fails.
    code = (
        "import importlib, sys\n"
        "sys.modules.update({n: None for n in ('tensorflow', 'tensorflow_text', 'keras')})\n"
        f"for name in {WITHOUT_TENSORFLOW}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_modules_stay_readable():
    # A module of more than 400 lines holds two purposes: ask which half goes.
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    assert not {p: n for p, n in sizes.items() if n > 400}
