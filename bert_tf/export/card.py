"""The model card: what an exported model is, in Markdown, for those who find it later.

Nothing in it is a claim of ours: it says what the run noted, what the files hold, and what
nobody measured.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bert_tf import filesystem

CARD_FILE = "README.md"
_PACKAGES = ("bert_tf", "tensorflow", "tensorflow-text", "keras")


@dataclasses.dataclass(frozen=True)
class Signature:
    """How a model may be called.

    Attributes:
      model: the folder it is in, "text" or "features".
      name: the signature's.
      method: "predict", "classify" or "regress".
      inputs, outputs: name -> type and shape.
      request: the body of an example request, JSON.
    """

    model: str
    name: str
    method: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    request: str


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training noted: run.json and metrics.json, empty where they are not there."""

    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a precision costs and saves; pairs are (float32, this precision).

    Attributes:
      rows: of the development set.
      scores: metrics on it.
      largest_difference: between two outputs.
      milliseconds: by rows of a batch.
      megabytes: of the weights.
      machine: where it was measured.
    """

    precision: str
    rows: int
    scores: Mapping[str, tuple[float, float]]
    largest_difference: float
    milliseconds: Mapping[int, tuple[float, ...]]
    megabytes: tuple[float, ...]
    machine: str


@dataclasses.dataclass(frozen=True)
class Card:
    """What goes onto the card; `config` is the architecture as in bert_config.json."""

    task_type: str
    use: str
    labels: Sequence[str]
    max_seq_length: int
    reads_whole_texts: bool
    config: Mapping[str, Any]
    do_lower_case: bool
    signatures: Sequence[Signature]
    run: Run
    measured: Measured | None = None

    @property
    def is_litert(self) -> bool:
        return self.measured is not None and self.measured.precision == "int8"


def read_run(folder: str | None) -> Run:
    """What run.json and metrics.json in a folder say. Raises ValueError if one is damaged."""
    found = {}
    for name in ("run.json", "metrics.json"):
        path = os.path.join(folder or "", name)
        found[name] = (
            filesystem.read_json(path, dict) if folder and filesystem.is_file(path) else {}
        )
    run = found["run.json"]
    parts = {part: run.get(part) or {} for part in ("flags", "data_sha256", "versions")}
    return Run(**parts, metrics=found["metrics.json"])


def text(card: Card) -> str:
    """The card."""
    task_name = card.run.metrics.get("task_name") or card.run.flags.get("task_name")
    parts = [
        f"# {task_name or card.task_type}: a fine-tuned BERT",
        f"Task: {card.task_type}. {card.use}",
        *_labels(card.labels),
        *_data(card.run),
        *_metrics(card.run.metrics),
        *_precision(card.measured),
        *_limits(card),
        *(_litert() if card.is_litert else _signatures(card.signatures)),
        *_making(card),
    ]
    return "\n\n".join(parts) + "\n"


def _labels(labels: Sequence[str]) -> Iterator[str]:
    if labels:
        yield "## Labels"
        yield "In the order of the outputs:"
        yield _fenced(json.dumps(list(labels), ensure_ascii=False))


def _data(run: Run) -> Iterator[str]:
    yield "## Data"
    if not run.data_sha256:
        yield "No run.json was found beside the weights: what they were trained on is not known."
        return
    yield "Trained on files with these SHA-256 fingerprints:"
    yield _table(("what", "sha256"), run.data_sha256.items())


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield "## Metrics"
    rows = [(_in_words(path), value) for path, value in _leaves(metrics)]
    if rows:
        yield "From metrics.json of the run."
        yield _table(("what", "value"), rows)
    else:
        yield "None was found beside the weights."


def _precision(measured: Measured | None) -> Iterator[str]:
    if measured is None:
        return
    yield "## Precision"
    yield (
        f"This model computes in {measured.precision}. Beside float32, on the {measured.rows} "
        f"rows of the development set, and on {measured.machine}:"
    )
    rows = [(name, *(f"{x:.4f}" for x in pair)) for name, pair in measured.scores.items()]
    for size, pair in measured.milliseconds.items():
        rows.append(
            (f"milliseconds, {size} row{'s' * (size > 1)} at once", *(f"{x:.2f}" for x in pair))
        )
    rows.append(("megabytes of weights", *(f"{x:.1f}" for x in measured.megabytes)))
    yield _table(("", "float32", measured.precision), rows)
    yield f"The largest difference between two outputs is {measured.largest_difference:.4f}."


def _leaves(value: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """`{"eval": {"loss": 1}}` -> `(("eval", "loss"), 1)`, without what is not there."""
    for name, inner in value.items():
        path = (*above, name)
        if path == ("results",):  # names of files on the machine of the training
            continue
        if isinstance(inner, Mapping):
            yield from _leaves(inner, path)
        elif inner is not None and inner != []:
            yield path, "; ".join(map(str, inner)) if isinstance(inner, list) else inner


# What metrics.json calls the parts of a run, and counters whose names say too little.
_PARTS = {
    "train": "training",
    "dev": "development set",
    "eval": "development set",
    "test": "test set",
    "predict": "test set",
}
_COUNTERS = {
    "truncated_percent": "truncated examples, percent",
    "cut_pieces": "pieces cut off",
    "unknown_percent": "unknown pieces, percent",
    "repeated": "examples that repeat the texts of another",
    "used": "questions trained on",
    "impossible": "questions without an answer",
    "several_answers": "questions of whose answers the first is used",
    "moved": "answers found beside the place in the file",
    "dropped": "questions left out, as the passage lacks their answer",
    "warnings": "warnings about the data",
}


def _in_words(path: tuple[str, ...]) -> str:
    """`("data", "train", "labels", "ham")` -> `training: examples labelled ham`."""
    names = list(path)
    if names[0] == "bad_rows":
        names.append("bad_rows_left_out")
    if names[0] in ("data", "bad_rows"):
        del names[0]
    first, *rest = names
    part, _, suffix = first.partition("_")
    if rest and part in _PARTS:
        first = f"{_PARTS[part]} {suffix}".rstrip()
    if rest[:-1] == ["labels"]:
        rest = [f"examples labelled {rest[-1]}"]
    else:
        first, *rest = (_COUNTERS.get(name, name.replace("_", " ")) for name in (first, *rest))
    return f"{first}: {', '.join(rest)}" if rest else first


def _limits(card: Card) -> Iterator[str]:
    yield "## Intended use and limits"
    case = "lower-cased and stripped of accents" if card.do_lower_case else "read with its case"
    pieces = f"{card.max_seq_length} word pieces"
    length = f"of an input only {pieces} count"
    if card.reads_whole_texts:
        length = f"a long one is read in windows of {pieces}"
    positions = card.config["max_position_embeddings"]
    yield (
        f"For text of the kind it was trained on. Text is {case}; {length}, [CLS] and [SEP] "
        f"included. The `features` model takes up to {positions}, but was not trained beyond."
    )
    yield (
        "Scores order answers; whether a score of 0.9 is right nine times in ten was not measured "
        "unless the metrics say so. Other domains, languages and kinds of text, fairness between "
        "groups of people and resistance to hostile input were not measured; what the pre-trained "
        "weights and the training data are biased to, the answers are too. Not for decisions about "
        "people without a person's review."
    )


def _signatures(signatures: Sequence[Signature]) -> Iterator[str]:
    yield "## Signatures"
    yield (
        "`text/<version>` and `features/<version>` are two models for TF Serving (`?` is any size):"
    )
    columns = ("model", "signature", "method", "takes", "answers")
    yield _table(
        columns,
        [(s.model, s.name, s.method, _listed(s.inputs), _listed(s.outputs)) for s in signatures],
    )
    yield "Bodies of example requests to TF Serving's REST interface:"
    models: dict[tuple[str, str, str], list[str]] = {}
    for s in signatures:
        models.setdefault((s.method, s.name, s.request), []).append(s.model)
    for (method, name, request), those in models.items():
        yield f"`POST /v1/models/MODEL:{method}`, `{name}` of {' and '.join(those)}:"
        yield _fenced(request)


def _litert() -> Iterator[str]:
    yield "## Use"
    yield (
        "`model.tflite` is for LiteRT (`pip install ai-edge-litert`). It takes rows of "
        "`input_ids`, `input_mask` and `segment_ids`, int32 [?, ?], which are made of texts as "
        "`vocab.txt` and the length above say; outputs are in the order of the labels."
    )
    yield _fenced(
        "from ai_edge_litert.interpreter import Interpreter\n\n"
        'run = Interpreter("model.tflite", num_threads=2).get_signature_runner()\n'
        "answers = run(input_ids=ids, input_mask=mask, segment_ids=segments)"
    )


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in sorted(values.items()))


def _making(card: Card) -> Iterator[str]:
    yield "## How it was made"
    versions = {name: metadata.version(name) for name in _PACKAGES}
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    revision = git_revision()
    yield f"Exported with {made}{f', git revision {revision}' if revision else ''}."
    if card.run.versions:
        trained = ", ".join(f"{name} {version}" for name, version in card.run.versions.items())
        yield f"Trained with {trained}."
    if card.run.flags:
        yield "Flags that training depended on:"
        flags = (f"--{name}={value}" for name, value in card.run.flags.items() if value is not None)
        yield _fenced("\n".join(flags))
    yield "Architecture:"
    yield _fenced(json.dumps(dict(card.config), indent=2, sort_keys=True))


def machine() -> str:
    """Processor, number of cores and Python."""
    processor = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
        processor = names[0] if names else processor
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"


def git_revision() -> str | None:
    """The commit of the source tree that this module runs from, if it is in one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no access
        return None
    return ran.stdout.strip()


def _fenced(content: str) -> str:
    return f"```\n{content}\n```"


def _table(columns: Sequence[str], rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
