"""What several test files share."""

import gzip
import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from squad_golden import recorded_json, unpacked

from bert_tf.data import squad_files
from bert_tf.data.squad_windows import WindowSettings
from bert_tf.tokenization import FullTokenizer

# Machines are shared: how long an example takes says nothing.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

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
