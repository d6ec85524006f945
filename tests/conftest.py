"""What several test files share."""

import csv
import gzip
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import settings
from squad_golden import recorded_json, unpacked

from bert_tf.data import squad_files
from bert_tf.data.squad_windows import WindowSettings
from bert_tf.tokenization import FullTokenizer

# Machines are shared: how long an example takes says nothing.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session", autouse=True)
def unflushed():
    """Nothing here outlives a power failure: to wait for the disk at every checkpoint is long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


EXAMPLES = Path(__file__).parent.parent / "examples"
VOCABS = Path(__file__).parent / "golden" / "vocabs"


@pytest.fixture(scope="session")
def released_vocab(tmp_path_factory):
    """Name of a released model (`bert-base-uncased`, ...) -> the path of its vocabulary."""
    folder = tmp_path_factory.mktemp("vocabs")

    def unpacked(name: str) -> Path:
        path = folder / name / "vocab.txt"
        if not path.exists():
            path.parent.mkdir()
            path.write_bytes(gzip.decompress((VOCABS / f"{name}-vocab.txt.gz").read_bytes()))
        return path

    return unpacked


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tiny classifier, and the export_dir that it was exported to."""
    import exporting

    from bert_tf.export import export_model
    from bert_tf.export.classification import Classifier

    folder = tmp_path_factory.mktemp("exported")
    servable = Classifier(**exporting.arguments(folder))
    export_model(servable, str(folder / "export"), exporting.SAMPLES)
    return servable, folder / "export"


def _bundled_lines() -> list[str]:
    table = EXAMPLES / "mnli" / "dev_matched.tsv"
    with table.open(encoding="utf-8", newline="") as file:
        english = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = (EXAMPLES / "drcd_zh" / "dev.jsonl").read_text("utf-8").split("\n")[:-1]
    chinese = list(map(json.loads, rows))
    lines = [row[key] for row in english for key in ("sentence1", "sentence2")]
    return lines + [row[key] for row in chinese for key in ("question", "sentence")]


@pytest.fixture(scope="session")
def real_lines() -> list[str]:
    """English and Chinese sentences, of the examples, as they are and in capitals."""
    lines = _bundled_lines()
    return lines + [line.upper() for line in lines]


# Unigram as ALBERT's; BPE with all that a model may have, and nothing that hides a difference:
# every character has its own pieces, and the model itself normalizes nothing.
SPM_KINDS = {
    "unigram": {},
    "bpe": {
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["<url>", "(", "[unused1]"],
    },
}


SPM_OPTIONS = {
    "vocab_size": 3000,
    "character_coverage": 0.99,
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
    "minloglevel": 3,
}


@pytest.fixture(scope="session")
def train_spm(tmp_path_factory):
    """A kind of SPM_KINDS, and other options of `spm_train` -> the path of a small model."""
    lines = _bundled_lines()[::2]

    def train(kind: str, **options) -> Path:
        path = tmp_path_factory.mktemp(kind) / "spiece.model"
        options = SPM_OPTIONS | SPM_KINDS[kind] | options
        with path.open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=file, model_type=kind, **options
            )
        return path

    return train


@pytest.fixture(scope="session")
def spm_models(train_spm):
    """The path of a model of each of SPM_KINDS."""
    return {kind: train_spm(kind) for kind in SPM_KINDS}


@pytest.fixture(scope="session")
def chinese_tokenizer(released_vocab):
    return FullTokenizer(released_vocab("bert-base-chinese"))


@pytest.fixture(scope="session")
def google_squad():
    """benchmarks/squad_features.py, which has the steps of Google's run_squad.py done plainly."""
    path = Path(__file__).parent.parent / "benchmarks" / "squad_features.py"
    spec = importlib.util.spec_from_file_location("squad_features", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # it imports another benchmark
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture
def interrupt(monkeypatch):
    """Stops what a function does when its training has done so many steps, as Ctrl-C would."""
    from bert_tf import training

    def interrupt(step, function):
        check = training.Loop._check_finite

        def stop(self, now, logs, manager):
            if now == step:
                raise KeyboardInterrupt
            check(self, now, logs, manager)

        with monkeypatch.context() as patched:
            patched.setattr(training.Loop, "_check_finite", stop)
            with pytest.raises(KeyboardInterrupt):
                function()

    return interrupt


@pytest.fixture(scope="session", params=["v1", "v2"])
def recorded_squad(request, released_vocab, tmp_path_factory):
    """The version, its questions, Google's features, the tokenizer and the settings."""
    version = request.param
    path = unpacked(f"{version}_input", tmp_path_factory.mktemp("squad"))
    features = recorded_json(f"{version}_features")
    args = features["args"]
    vocab = released_vocab(args["vocab"].removesuffix("-vocab.txt"))
    tokenizer = FullTokenizer(vocab, do_lower_case=args["do_lower_case"])
    names = ("max_seq_length", "doc_stride", "max_query_length")
    settings = WindowSettings(*(args[name] for name in names))
    return version, squad_files.read(path), features, tokenizer, settings
