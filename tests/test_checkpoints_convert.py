"""`python -m bert_tf.checkpoints.convert`: from every format into every format, to the bit."""

import filecmp
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_tf import checkpoints
from bert_tf.checkpoints.convert import convert, main

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
KERAS_BERT = GOLDEN / "keras_bert_test"


def assert_same_bits(path, expected):
    tensors = checkpoints.read(path)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].tobytes() == tensor.tobytes(), name
        assert tensors[name].shape == tensor.shape, name


@pytest.mark.parametrize(
    "route",
    [
        ["model.safetensors"],
        ["x.weights.h5"],
        ["x.weights.h5", "model.safetensors", "y.ckpt", "y.weights.h5"],
    ],
    ids="-".join,
)
def test_round_trips(tmp_path, route):
    weights = checkpoints.read(KERAS_BERT, optimizer_state=False)
    source = str(KERAS_BERT)
    for number, name in enumerate(route):
        target = str(tmp_path / str(number) / name)
        summary = convert(source, target)
        assert_same_bits(target, weights)
        assert summary.startswith(f"{target}: 46 tensors")
        assert ("without 93 of the optimizer's state" in summary) is (number == 0)
        source = target
    final = tmp_path / "final"
    convert(source, str(final), "google")
    assert_same_bits(final / "bert_model.ckpt", weights)
    for name in ("bert_config.json", "vocab.txt"):
        assert filecmp.cmp(final / name, KERAS_BERT / name, shallow=False), name
    note = json.loads((final / "tokenizer_config.json").read_text())
    assert note == {"do_lower_case": True}


def test_googles_format_keeps_the_optimizer_unless_stripped(tmp_path):
    convert(str(KERAS_BERT), str(tmp_path / "all" / "bert_model.ckpt"))
    assert_same_bits(tmp_path / "all", checkpoints.read(KERAS_BERT))
    for ending in ("index", "data-00000-of-00001"):
        name = f"bert_model.ckpt.{ending}"
        assert filecmp.cmp(tmp_path / "all" / name, KERAS_BERT / name, shallow=False)
    convert(str(KERAS_BERT), str(tmp_path / "bare.ckpt"), strip_optimizer=True)
    assert_same_bits(tmp_path / "bare.ckpt", checkpoints.read(KERAS_BERT, optimizer_state=False))


@pytest.mark.parametrize("head", ["output_weights", "cls/squad/output_weights", None])
def test_keras_files_of_every_head(tmp_path, head):
    weights = checkpoints.read(KERAS_BERT, optimizer_state=False)
    weights = {name: x for name, x in weights.items() if name.startswith("bert/")}
    if head:
        weights[head] = np.ones([2, 4], np.float32)
        weights[head.replace("weights", "bias")] = np.ones(2, np.float32)
    if head and "squad" in head:
        weights = {name: x for name, x in weights.items() if "pooler" not in name}
    source = checkpoints.save(weights, tmp_path / "a.ckpt", "google")
    (tmp_path / "bert_config.json").write_bytes((KERAS_BERT / "bert_config.json").read_bytes())
    convert(source, str(tmp_path / "a.weights.h5"))
    assert_same_bits(tmp_path / "a.weights.h5", weights)
    checkpoints.save(weights | {"mine": np.ones(1, np.float32)}, tmp_path / "b.ckpt", "google")
    with pytest.raises(ValueError, match="no model of bert_tf holds mine"):
        convert(str(tmp_path / "b.ckpt"), str(tmp_path / "b.weights.h5"))


def test_what_is_read_is_not_replaced(tmp_path):
    google = tmp_path / "google"
    convert(str(KERAS_BERT), str(google), "google", strip_optimizer=True)
    (tmp_path / "link").symlink_to(google, target_is_directory=True)
    before = {file.name: file.read_bytes() for file in google.iterdir()}
    for target in (google, tmp_path / "link" / "bert_model.ckpt", google / ".." / "google"):
        with pytest.raises(ValueError, match=r"--to: .*bert_model\.ckpt is read.* give another"):
            convert(str(google), str(target), "google")
    convert(str(google), str(google), "huggingface")  # beside it is right
    assert before.items() <= {file.name: file.read_bytes() for file in google.iterdir()}.items()
    (tmp_path / "theirs").mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / "theirs" / name).write_bytes((google / name).read_bytes())
    with pytest.raises(ValueError, match=r"--to: .*tokenizer_config\.json is read"):
        convert(str(tmp_path / "theirs"), str(tmp_path / "theirs" / "a.weights.h5"))


def test_the_command_line(tmp_path, capsys):
    main(["--from", str(KERAS_BERT), "--to", str(tmp_path), "--format", "huggingface"])
    assert "do_lower_case=True: no single capital letters in" in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").exists()
    with pytest.raises(SystemExit):
        main(["--from", str(KERAS_BERT), "--to", str(tmp_path / "out")])
    assert "does not say the format; add --format=google|" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--from", "/nowhere", "--to", str(tmp_path / "out.ckpt")])
    assert "no checkpoint at /nowhere" in capsys.readouterr().err


def test_help_does_not_wait_for_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from bert_tf.checkpoints import convert, locate; convert.main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--strip_optimizer" in done.stdout, done.stderr
