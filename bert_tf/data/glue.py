"""The published tasks, a row each: GLUE, XNLI, PAWS-X, LCQMC, ChnSentiCorp and CLUE.

Columns, labels and guids of CoLA, MNLI, MRPC and XNLI are those of the processors in
google-research/bert's run_classifier.py; the other tasks follow their published files.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bert_tf.data.examples import SPLITS
from bert_tf.data.layouts import Column, Field, Json, Task, Tsv
from bert_tf.data.text_files import did_you_mean
from bert_tf.metrics import METRICS

DEFAULT_LANGUAGE = "zh"  # Google's processor of XNLI knows no other


def _tsv(
    text_a: Column,
    text_b: Column | None = None,
    label: Column = "label",
    guid: Column | None = "index",
    files: tuple[str, str, str] = ("train.tsv", "dev.tsv", "test.tsv"),
    test_labels: bool = False,
) -> dict[str, Tsv]:
    """Training, development and test file of one layout; most test files have no labels."""
    return {
        split: Tsv(
            file, text_a, text_b, None if split == "test" and not test_labels else label, guid
        )
        for split, file in zip(SPLITS, files, strict=True)
    }


def _json(
    text_a: Field, text_b: Field | None = None, train: str = "train.json", drop: str | None = None
) -> dict[str, Json]:
    """CLUE's files; the test files have no labels."""
    return {
        "train": Json(train, text_a, text_b, "label", drop=drop),
        "dev": Json("dev.json", text_a, text_b, "label", drop=drop),
        "test": Json("test.json", text_a, text_b),
    }


def _keywords(row: Mapping[str, Any]) -> str:
    """CSL: do all of these keywords belong to the abstract?"""
    return " ".join(row["keyword"])


def _marked_spans(row: Mapping[str, Any]) -> str:
    """CLUEWSC: the text with `_noun_` and `[pronoun]` marked."""
    target, marks = row["target"], []
    for span, opening, closing in ((1, "_", "_"), (2, "[", "]")):
        start = target[f"span{span}_index"]
        end = start + len(target[f"span{span}_text"])
        marks += [(start, 1, opening), (end, 0, closing)]  # where both meet, one closes first
    text = row["text"]
    for position, _, mark in sorted(marks, reverse=True):
        text = text[:position] + mark + text[position:]
    return text


_COLA: dict[str, Tsv | Json] = {
    "train": Tsv("train.tsv", 3, None, 1, header=False, columns=4),
    "dev": Tsv("dev.tsv", 3, None, 1, header=False, columns=4),
    "test": Tsv("test.tsv", 1),
}
_SST2 = _tsv("sentence", guid=None)
_SST2["test"] = replace(_SST2["test"], guid="index")
_QQP = _tsv("question1", "question2", "is_duplicate", "id")
_QQP["train"] = replace(_QQP["train"], skip_incomplete=True)
_MNLI = {
    "train": Tsv("train.tsv", 8, 9, -1, 0),
    "dev": Tsv("dev_matched.tsv", 8, 9, -1, 0),
    "test": Tsv("test_matched.tsv", 8, 9, None, 0),
    "dev_mismatched": Tsv("dev_mismatched.tsv", 8, 9, -1, 0),
    "test_mismatched": Tsv("test_mismatched.tsv", 8, 9, None, 0),
}
_AX = {"test": Tsv("diagnostic.tsv", "sentence1", "sentence2", guid="index")}
_XNLI = {  # Google's processor has no test set
    "train": Tsv("multinli/multinli.train.{language}.tsv", 0, 1, 2),
    "dev": Tsv("xnli.dev.tsv", 6, 7, 1, keep=(0, "{language}")),
    "test": Tsv("xnli.test.tsv", 6, 7, 1, keep=(0, "{language}")),
}
_XNLI_LANGUAGES = (
    *("ar", "bg", "de", "el", "en", "es", "fr", "hi"),
    *("ru", "sw", "th", "tr", "ur", "vi", "zh"),
)
_PAWS_FILES = ("{translated}train.tsv", "dev_2k.tsv", "test_2k.tsv")
_PAWS_X = _tsv(
    *("sentence1", "sentence2", "label", "id"),
    files=tuple("{language}/" + file for file in _PAWS_FILES),  # type: ignore[arg-type]
    test_labels=True,
)
_PAWS_LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")
_LCQMC = {  # found with and without a header
    split: Tsv(f"{split}.tsv", 0, 1, 2, header=False, columns=3, maybe_header="text_a")
    for split in SPLITS
}
_CHNSENTICORP = _tsv("text_a", guid=None, test_labels=True)
_PAIR = _tsv("sentence1", "sentence2")

_BINARY = ("0", "1")
_NLI = ("contradiction", "entailment", "neutral")
_ENTAILMENT = ("entailment", "not_entailment")
_TNEWS = tuple(str(n) for n in range(100, 117) if n not in (105, 111))
_IFLYTEK = tuple(map(str, range(119)))

TASKS: dict[str, Task] = {
    name: Task(name, classes, METRICS[metric], layouts, **rest)
    for name, classes, metric, layouts, rest in (
        ("cola", _BINARY, "matthews", _COLA, {}),
        ("sst-2", _BINARY, "accuracy", _SST2, {}),
        ("mrpc", _BINARY, "f1", _tsv(3, 4, 0, None), {}),
        ("sts-b", (), "pearson", _tsv("sentence1", "sentence2", "score"), {}),
        ("qqp", _BINARY, "f1", _QQP, {}),
        ("mnli", _NLI, "accuracy", _MNLI, {}),
        ("qnli", _ENTAILMENT, "accuracy", _tsv("question", "sentence"), {}),
        ("rte", _ENTAILMENT, "accuracy", _PAIR, {}),
        ("wnli", _BINARY, "accuracy", _PAIR, {}),
        ("ax", _NLI, "matthews", _AX, {}),  # predicted with a model trained on MNLI
        (
            *("xnli", _NLI, "accuracy", _XNLI),
            {"renamed": {"contradictory": "contradiction"}, "languages": _XNLI_LANGUAGES},
        ),
        ("paws-x", _BINARY, "accuracy", _PAWS_X, {"languages": _PAWS_LANGUAGES}),
        ("lcqmc", _BINARY, "accuracy", _LCQMC, {}),
        ("chnsenticorp", _BINARY, "accuracy", _CHNSENTICORP, {}),
        ("afqmc", _BINARY, "accuracy", _json("sentence1", "sentence2"), {}),
        ("tnews", _TNEWS, "accuracy", _json("sentence"), {}),
        ("iflytek", _IFLYTEK, "accuracy", _json("sentence"), {}),
        ("cmnli", _NLI, "accuracy", _json("sentence1", "sentence2", drop="-"), {}),
        (
            *("ocnli", _NLI, "accuracy"),
            *(_json("sentence1", "sentence2", "train.50k.json", drop="-"), {}),
        ),
        ("csl", _BINARY, "accuracy", _json(_keywords, "abst"), {}),
        ("cluewsc", ("false", "true"), "accuracy", _json(_marked_spans), {}),
    )
}


def find(name: str, language: str | None = None) -> Task:
    """The task of this name, in upper or lower case; in one language if it has several.

    Raises ValueError if there is none, or not in this language.
    """
    if name.lower() not in TASKS:
        raise ValueError(f"Task not found: {name}.{did_you_mean(name.lower(), list(TASKS))}")
    task = TASKS[name.lower()]
    if task.languages:
        return task.in_language(language or DEFAULT_LANGUAGE)
    if language is not None:
        raise ValueError(f"--xnli_language={language}: --task_name={name} is in one language")
    return task
