"""What is said of a checkpoint, and of two."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bert_tf import checkpoints
from bert_tf.checkpoints import diff, inspect
from bert_tf.checkpoints.convert import convert

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"


@pytest.fixture
def folder(tmp_path):
    """A whole checkpoint of Google's run_pretraining.py, in a folder of its own."""
    shutil.copytree(GOLDEN / "keras_bert_test", tmp_path / "model")
    return tmp_path / "model"


def said(path):
    """The lines by title; several of one title as a list."""
    lines = {}
    for line in inspect.inspect(str(path)).splitlines():
        lines.setdefault(line[:12].strip(), []).append(line[12:])
    return lines


def test_a_training_checkpoint_of_googles(folder):
    lines = said(folder)
    assert lines["family"] == ["TensorFlow 1 (google-research/bert)"]
    assert lines["sizes"] == [
        "vocab_size 15, max_position_embeddings 16, type_vocab_size 2, hidden_size 4, "
        "intermediate_size 16, num_hidden_layers 2"
    ]
    assert lines["parameters"] == ["701, 628 of them in the encoder"]
    assert lines["optimizer"] == ["Adam, 93 tensors, step 20"]
    assert "masked words" in lines["heads"][0] and "next sentence" in lines["heads"][0]
    assert "15 tokens, lower-cased" in lines["vocabulary"][0]
    assert "odd" not in lines


def test_what_is_odd_is_said(folder):
    config = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").write_text(json.dumps(config | {"vocab_size": 99}))
    vocab = (folder / "vocab.txt").read_text().replace("[MASK]", "Q")
    (folder / "vocab.txt").write_text(vocab + "one\nmore\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    tensors = checkpoints.read(folder)
    del tensors["bert/pooler/dense/kernel"]
    tensors["something/else"] = np.zeros(3, np.float32)
    checkpoints.save(tensors, str(folder / "bert_model.ckpt"), "google")
    assert said(folder)["odd"] == [
        "the config says vocab_size=99, the weights 15",
        "the vocabulary has 16 tokens, the word embeddings 15 rows",
        "the vocabulary has no [MASK], so it cannot be pre-trained on",
        "text is lower-cased, but the vocabulary has capital letters",
        "there is no pooler: a classifier on top starts with a random one",
        "no part of BERT: something/else",
    ]


def test_nothing_beside_the_weights(tmp_path):
    for file in (GOLDEN / "keras_bert_test").glob("bert_model.ckpt*"):
        shutil.copy(file, tmp_path)
    odd = said(tmp_path)["odd"]
    assert odd[0].startswith("there is no bert_config.json") and "no vocab.txt" in odd[1]


def test_families_of_one_model_do_not_differ(folder, tmp_path):
    convert(str(folder), str(tmp_path / "hf" / "model.safetensors"))
    assert said(tmp_path / "hf")["family"] == ["Hugging Face"]
    lines = diff.diff(str(folder), str(tmp_path / "hf")).splitlines()
    assert lines[-1] == "46 tensors are equal to the bit, 0 differ in their values"
    # Hugging Face's files have no place for the optimizer.
    assert all(line.startswith(("only in the first: ", "and ")) for line in lines[:-1])


def test_differences(folder, tmp_path):
    tensors = checkpoints.read(folder, optimizer_state=False)
    one = tmp_path / "one"
    shutil.copytree(folder, one)
    checkpoints.save(tensors, str(one / "bert_model.ckpt"), "google")
    changed = {name: value.copy() for name, value in tensors.items()}
    changed["bert/pooler/dense/bias"][0] += 0.5
    changed["cls/predictions/output_bias"] = np.zeros(16, np.float32)
    changed["extra"] = np.zeros(2, np.float32)
    two = tmp_path / "two"
    shutil.copytree(folder, two)
    config = json.loads((two / "bert_config.json").read_text())
    (two / "bert_config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    checkpoints.save(changed, str(two / "bert_model.ckpt"), "google")
    (two / "vocab.txt").write_text((two / "vocab.txt").read_text() + "more\n")
    lines = diff.diff(str(one), str(two)).splitlines()
    assert [line for line in lines if "config" in line] == ["config hidden_act: 'gelu' and 'relu'"]
    assert "vocabulary: 1 ids stand for other tokens" in lines
    assert "only in the second: extra (2,)" in lines
    assert "cls/predictions/output_bias: (15,) and (16,)" in lines
    assert "bert/pooler/dense/bias: differs by 0.5 at most" in lines
    assert lines[-1].endswith("1 differ in their values")


def test_command_lines(folder, capsys):
    inspect.main([str(folder)])
    assert "family" in capsys.readouterr().out
    diff.main([str(folder), str(folder)])
    assert "0 differ in their values" in capsys.readouterr().out
    for main, arguments in ((inspect.main, ["nowhere"]), (diff.main, [str(folder), "nowhere"])):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "no checkpoint at nowhere" in capsys.readouterr().err
