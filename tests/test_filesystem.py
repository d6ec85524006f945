"""Remote paths, on TensorFlow's own in-memory file system: `ram://` goes the ways of `gs://`."""

import contextlib
import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bert_tf import checkpoints, filesystem, heads
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.config import BertConfig
from bert_tf.data import records
from bert_tf.data.corpora import find_files
from bert_tf.export import serving_config
from bert_tf.tasks import classification
from bert_tf.tasks.classification_config import ClassificationConfig

TINY = Path(__file__).parent / "tiny"
TORCH = Path(__file__).parent / "golden" / "checkpoints" / "torch"


@pytest.fixture
def remote(request):
    """An empty remote folder."""
    folder = "ram://" + re.sub(r"\W", "-", request.node.name)
    tf.io.gfile.makedirs(folder)
    yield folder
    # ram:// lists a file ".extra" in assets/, for the folder assets.extra/, and does not find it.
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.rmtree(folder)


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("remote")


def copied(files, folder):
    tf.io.gfile.makedirs(folder)
    for file in files:
        tf.io.gfile.copy(str(file), f"{folder}/{file.name}")
    return folder


# -------------------------------------------------------------------------------- functions


def test_files_and_folders(folder):
    filesystem.make_dir(f"{folder}/a/b")
    filesystem.make_dir(f"{folder}/a/b")
    filesystem.write_bytes(f"{folder}/a/x", b"\0\xff\r\n")
    assert filesystem.read_bytes(f"{folder}/a/x") == b"\0\xff\r\n"
    assert filesystem.list_dir(f"{folder}/a") == ["b", "x"]
    assert filesystem.size(f"{folder}/a/x") == 4
    names = ("x", "b", "c")
    assert [filesystem.is_file(f"{folder}/a/{name}") for name in names] == [True, False, False]
    assert [filesystem.is_dir(f"{folder}/a/{name}") for name in names] == [False, True, False]


def test_a_file_of_that_very_name_is_no_pattern(folder):
    filesystem.make_dir(f"{folder}/x1")
    for name in ("a1", "a2", "b.tmp", "b.1.tmp", "b"):
        filesystem.write_bytes(f"{folder}/{name}", b"")
    assert filesystem.matching(f"{folder}/[ab]?") == [f"{folder}/a1", f"{folder}/a2"]
    assert filesystem.matching(f"{folder}/x*") == []
    assert filesystem.beside(f"{folder}/b", ".", ".tmp") == [
        f"{folder}/{name}" for name in ("b.1.tmp", "b.tmp")
    ]
    assert filesystem.beside(f"{folder}/nowhere/b", ".") == []
    if not filesystem.is_remote(folder):
        filesystem.write_bytes(f"{folder}/a[1]", b"")
        assert filesystem.matching(f"{folder}/a[1]") == [f"{folder}/a[1]"]
        assert find_files(f"{folder}/a[1],{folder}/a[12]", "input_file") == [
            f"{folder}/{name}" for name in ("a[1]", "a1", "a2")
        ]


def test_what_is_missing_is_named(folder):
    path = f"{folder}/missing"
    for function in (filesystem.read_bytes, filesystem.list_dir, filesystem.size):
        with pytest.raises(FileNotFoundError, match=path):
            function(path)
    with pytest.raises(FileNotFoundError, match=path), filesystem.local_copy(path) as local:
        filesystem.read_bytes(local)
    with pytest.raises(OSError, match=folder):
        filesystem.read_bytes(folder)


def test_local_stand_ins(folder):
    path = f"{folder}/model.weights.h5"
    with filesystem.local_target(path) as local:
        assert os.path.basename(local) == "model.weights.h5"
        Path(local).write_bytes(b"weights")
    assert filesystem.read_bytes(path) == b"weights"
    with filesystem.local_copy(path) as local:
        assert Path(local).read_bytes() == b"weights"
    assert os.path.exists(local) == (path == local)


def test_an_unfinished_target_is_not_copied(remote):
    with pytest.raises(KeyError), filesystem.local_target(f"{remote}/x") as local:
        Path(local).write_bytes(b"half")
        raise KeyError
    assert not filesystem.is_file(f"{remote}/x")


@pytest.mark.parametrize(
    "use",
    [
        filesystem.is_file,
        filesystem.read_bytes,
        filesystem.make_dir,
        checkpoints.locate,
        BertConfig.from_json_file,
        lambda path: CheckpointManager(path).latest(),
        lambda path: records.write(path, [], {}),
    ],
)
def test_an_unknown_file_system_is_one_clear_error(use):
    with pytest.raises(OSError, match="scheme 'nowhere' not implemented.*nowhere://there"):
        use("nowhere://there/model.ckpt")


# ------------------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("format", ["google", "huggingface", "keras"])
def test_every_format_is_written_and_read(remote, format):
    model = heads.classifier(BertConfig.from_json_file(TINY / "bert_config.json"), 3)
    vocab_file = str(TINY / "vocab.txt")
    checkpoints.save(model, remote, format, vocab_file=vocab_file, do_lower_case=False)
    assert not [name for name in filesystem.list_dir(remote) if name.startswith(".")]
    place = checkpoints.locate(remote)
    assert place == checkpoints.locate(place.weights)
    _, tokenizer, encoder = checkpoints.from_pretrained(remote)
    assert not tokenizer.do_lower_case
    for ours, theirs in zip(encoder.weights, model.bert.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("pattern", ["*.bin", "*.safetensors"])
def test_files_of_pytorch(remote, pattern):
    for file in TORCH.glob(pattern):
        path = f"{copied([file], remote)}/{file.name}"
        expected = checkpoints.read(file)
        ours = checkpoints.read(path)
        assert ours.keys() == expected.keys()
        assert all(np.array_equal(ours[name], expected[name]) for name in ours)
        tf.io.gfile.remove(path)


def test_a_damaged_remote_file_is_named(remote):
    for name in ("x.safetensors", "x.bin", "x.weights.h5"):
        filesystem.write_bytes(f"{remote}/{name}", b"not one")
        with pytest.raises(ValueError, match=f"^{remote}/{name} is damaged"):
            checkpoints.read(f"{remote}/{name}")


# ------------------------------------------------------------------------------ a whole run


@pytest.mark.parametrize(
    ("kind", "format"), [("remote", "google"), ("remote", "huggingface"), ("patterns", "google")]
)
def test_a_run_whose_every_path_is_remote_or_looks_like_a_pattern(
    kind, format, tmp_path, request, capsys
):
    """Train; from Google's format also evaluate, predict, export, and find all done later."""
    remote = str(tmp_path / "[a] *b?" / "run[1]")
    if kind == "remote":
        remote = request.getfixturevalue("remote")
    data_dir = copied((TINY / "MNLI").iterdir(), f"{remote}/data")
    init = f"{remote}/init"
    weights = checkpoints.save(
        heads.classifier(BertConfig.from_json_file(TINY / "bert_config.json"), 3),
        init,
        format,
        vocab_file=str(TINY / "vocab.txt"),
    )
    whole = format == "google"
    config = ClassificationConfig(
        task_name="mnli",
        data_dir=data_dir,
        output_dir=f"{remote}/out",
        init_checkpoint=weights if whole else init,
        max_seq_length=24,
        train_batch_size=2,
        num_train_epochs=1,
        do_train=True,
        do_eval=whole,
        do_predict=whole,
        export_dir=f"{remote}/export" if whole else None,
    )
    result = classification.run(config)
    assert result["metrics"]["train"]["first_step"] == 0
    checkpoints.from_pretrained(result["final_model"])
    if not whole:
        return
    capsys.readouterr()
    again = classification.run(dataclasses.replace(config, export_dir=None))
    assert "Training has already finished" in capsys.readouterr().out
    for name in ("eval_results", "predictions"):
        assert filesystem.read_bytes(again[name]) == filesystem.read_bytes(result[name])
    assert result["export"] == f"{remote}/export/text/1"
    in_export_dir = sorted(["features", "text", *serving_config.FILES])
    assert sorted(filesystem.list_dir(f"{remote}/export")) == in_export_dir
    with filesystem.plain_name(result["export"]) as path:
        served = tf.saved_model.load(path).signatures["single_sentence"]
    assert served(text_a=tf.constant(["a text"]))["probabilities"].shape == [1, 3]
    with pytest.raises(ValueError, match="--learning_rate: 5e-05 then, 0.001 now"):
        classification.run(dataclasses.replace(config, learning_rate=1e-3))
    others = {"init_checkpoint": result["final_model"], "output_dir": f"{remote}/other"}
    other = classification.run(
        dataclasses.replace(config, **others, do_train=False, do_predict=False, export_dir=None)
    )
    assert other["metrics"]["eval"] == result["metrics"]["eval"]
