"""Damaged files are named, and no flipped bit goes unseen where there is a checksum."""

import contextlib
import os
import random
import shutil
from pathlib import Path

import pytest
from arrays import same

from bert_tf import checkpoints, heads
from bert_tf.checkpoints import google, huggingface
from bert_tf.checkpoints.files import DamagedCheckpointError
from bert_tf.config import BertConfig

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
KERAS_BERT = GOLDEN / "keras_bert_test"
TORCH = GOLDEN / "torch"
CONFIG = BertConfig.from_json_file(KERAS_BERT / "bert_config.json")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A `.weights.h5` of ours."""
    path = tmp_path_factory.mktemp("h5")
    return checkpoints.save(heads.classifier(CONFIG, 2), path, "keras")


def damage(path, original, change):
    Path(path).write_bytes(change(bytearray(original)))


def flipped(position):
    def change(data):
        data[position] ^= 1 << (position % 8)
        return data

    return change


def assert_every_truncation_is_named(path, read, named=None):
    original = Path(path).read_bytes()
    for length in (0, 1, 7, 40, len(original) // 2, len(original) - 1):
        damage(path, original, lambda data, length=length: data[:length])
        with pytest.raises(DamagedCheckpointError) as error:
            read()
        assert str(named or path) in str(error.value)
    Path(path).write_bytes(original)


def assert_no_flip_is_silent(path, read, positions):
    """A flipped bit is an error that names the file, or changes nothing that is read."""
    original, expected, errors = Path(path).read_bytes(), read(), 0
    for position in positions(len(original)):
        damage(path, original, flipped(position))
        try:
            assert same(read(), expected), f"byte {position} of {path} changed silently"
        except DamagedCheckpointError as error:
            assert str(path).rsplit(".data", 1)[0] in str(error)
            errors += 1
    Path(path).write_bytes(original)
    return errors


def some(count):
    return lambda size: random.Random(size).sample(range(size), min(count, size))


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_damaged_google_checkpoints(tmp_path, ending):
    for file in KERAS_BERT.iterdir():
        shutil.copy(file, tmp_path)
    path = f"{tmp_path}/bert_model.ckpt.{ending}"
    read = lambda: google.read(f"{tmp_path}/bert_model.ckpt")  # noqa: E731
    assert_every_truncation_is_named(path, read)
    assert assert_no_flip_is_silent(path, read, some(150)) >= 140
    os.remove(path)
    with pytest.raises(DamagedCheckpointError, match=f"ckpt.{ending} is damaged .*is missing"):
        read()


@pytest.mark.parametrize("file", ["model.safetensors", "zip.bin", "legacy.bin"])
def test_truncated_hugging_face_files(tmp_path, file):
    path = shutil.copy(TORCH / file, tmp_path)
    assert_every_truncation_is_named(path, lambda: huggingface.read(path))


def test_damaged_zip_archives(tmp_path):
    path = shutil.copy(TORCH / "zip.bin", tmp_path)
    assert assert_no_flip_is_silent(path, lambda: huggingface.read(path), some(300)) > 30


def test_damaged_legacy_files_raise_nothing_else(tmp_path):
    # Their numbers bear no checksum, so a flip there is not seen; elsewhere it is an error.
    path = shutil.copy(TORCH / "legacy.bin", tmp_path)
    original = Path(path).read_bytes()
    for position in some(400)(len(original)):
        damage(path, original, flipped(position))
        with contextlib.suppress(ValueError):
            huggingface.read(path)


def test_any_flip_in_a_headers_size_is_an_error(tmp_path):
    path = shutil.copy(TORCH / "model.safetensors", tmp_path)
    assert assert_no_flip_is_silent(path, lambda: huggingface.read(path), lambda _: range(8)) == 8


def test_damaged_weights_files(tmp_path, weights_file):
    path = shutil.copy(weights_file, tmp_path)
    read = lambda: checkpoints.read(path)  # noqa: E731
    assert_every_truncation_is_named(path, read)
    assert assert_no_flip_is_silent(path, read, some(50)) > 0


def test_a_missing_shard_is_named(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"pooler.dense.bias": "model-2.safetensors"}}')
    with pytest.raises(DamagedCheckpointError, match=r"model-2.safetensors is damaged.*missing"):
        checkpoints.read(tmp_path)
    shutil.copy(TORCH / "model.safetensors", tmp_path / "model-2.safetensors")
    with pytest.raises(DamagedCheckpointError, match=r"index.json .*lack 1 tensors.*pooler.dense"):
        checkpoints.read(index)
    index.write_text("{}")
    with pytest.raises(DamagedCheckpointError, match=r"index.json is damaged"):
        checkpoints.read(index)
