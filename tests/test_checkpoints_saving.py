"""Interrupted saves, full disks, and the checkpoints of a training run."""

import contextlib
import os
import resource
import shutil
import stat
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from arrays import same
from tensorflow.io import gfile

from bert_tf import checkpoints, heads
from bert_tf.checkpoints import files, google, huggingface
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.config import BertConfig

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
KERAS_BERT = GOLDEN / "keras_bert_test"
CONFIG = BertConfig.from_json_file(KERAS_BERT / "bert_config.json")


def small():
    return {"output_bias": np.arange(3, dtype=np.float32), "global_step": np.int64(9)}


def flip(path, position):
    data = bytearray(Path(path).read_bytes())
    data[position] ^= 8
    Path(path).write_bytes(data)


WRITERS = {
    "model.ckpt-1": lambda path, x: google.write(path, x, {"bert_config.json": b"{}"}),
    "model.safetensors": lambda path, x: huggingface.write(path, x, CONFIG),
}


class Killed(BaseException):
    """The process ends here."""


def die_at_step(monkeypatch, step):
    """Lets `step` removals and renames happen; the next one kills, and nothing is cleaned up."""
    done = []

    def counted(function):
        def call(*args, **kwargs):
            if len(done) == step:
                raise Killed
            done.append(args)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(files.gfile, "rename", counted(gfile.rename))
    monkeypatch.setattr(files.gfile, "remove", counted(gfile.remove))
    monkeypatch.setattr(files, "remove_tree", lambda folder: None)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_an_interrupted_save_never_looks_complete(tmp_path, monkeypatch, name, overwrite):
    old = {"output_bias": np.zeros(3, np.float32), "output_weights": np.zeros([3, 4], np.float32)}
    new = {key: tensor + 1 for key, tensor in old.items()}
    for step in range(10):
        folder = tmp_path / str(step)
        folder.mkdir()
        path = str(folder / name)
        if overwrite:
            WRITERS[name](path, old)
        with monkeypatch.context() as patch:
            die_at_step(patch, step)
            try:
                WRITERS[name](path, new)
            except Killed:
                interrupted = True
            else:
                interrupted = False
        place = checkpoints.locate(folder).weights
        if not interrupted:
            assert same(checkpoints.read(place), new)
            break
        assert any(file.name.startswith(".saving-") for file in folder.iterdir())
        if place is not None:
            assert overwrite and same(checkpoints.read(place), old)
        WRITERS[name](path, new)  # the next save is not in the way of the last
        assert same(checkpoints.read(path), new)
        assert not any(file.name.startswith(".saving-") for file in folder.iterdir())
    else:
        pytest.fail("never finished")
    assert step >= 2


def test_an_interrupted_write_of_one_file_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    path.write_bytes(b"old")
    for step in range(5):
        with monkeypatch.context() as patch:
            die_at_step(patch, step)
            try:
                files.write_file(str(path), b"new")
            except Killed:
                assert path.read_bytes() == b"old"
            else:
                break
    assert step == 1 and path.read_bytes() == b"new"


def test_a_folder_is_flushed_after_its_renames(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(there(descriptor)))

    def there(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        return sorted(os.listdir(descriptor)) if is_folder else "file"

    files.write_file(str(tmp_path / "metrics.json"), b"{}")
    assert flushed == ["file", [".saving-metrics.json", "metrics.json"]]


def test_an_exception_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = str(tmp_path / "model.ckpt-1")
    google.write(path, small())
    before = sorted(os.listdir(tmp_path))

    def fail(**_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.raw_ops, "SaveV2", fail)
    with pytest.raises(OSError, match=r"could not save .*/model.ckpt-1: No space left on device; "):
        google.write(path, {"output_bias": np.ones(3, np.float32)})
    assert sorted(os.listdir(tmp_path)) == before
    assert same(google.read(path), small())


@contextlib.contextmanager
def files_limited_to(size):
    """No file may grow beyond `size` bytes: a real error of the operating system."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("format", ["google", "huggingface"])
def test_disk_errors_are_clear_and_leave_nothing(tmp_path, format):
    big = {"output_weights": np.ones([400, 400], np.float32)}
    message = rf"could not save {tmp_path}/.*; the folder must be writable and have enough space"
    with files_limited_to(20_000), pytest.raises(OSError, match=message):
        checkpoints.save(big, tmp_path, format, config=CONFIG)
    assert os.listdir(tmp_path) == []


def test_disk_errors_of_keras(tmp_path, monkeypatch):
    def fail(model, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device\n, filename = ...")

    monkeypatch.setattr(keras.saving, "save_weights", fail)
    with pytest.raises(OSError, match=r"model.weights.h5: No space left on device; the folder"):
        checkpoints.save(heads.classifier(CONFIG, 2), tmp_path, "keras")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not save .*/file/model.ckpt-1: .*writable"):
        google.write(str(tmp_path / "file" / "model.ckpt-1"), small())


# ---------------------------------------------------------------------- CheckpointManager


def test_saving_goes_on_beside_training(tmp_path, monkeypatch):
    """`save` returns before anything is written; what is changed then is not in the file."""
    may_write, write = threading.Event(), google.write

    def later(*arguments):
        assert may_write.wait(60)
        write(*arguments)

    monkeypatch.setattr(google, "write", later)
    variables = small()
    with CheckpointManager(str(tmp_path)) as manager:
        manager.save(1, variables)
        assert steps_in(tmp_path) == []
        before = {name: value.copy() for name, value in variables.items()}
        for value in variables.values():
            value += 1
        may_write.set()
    saved = google.read(str(tmp_path / "model.ckpt-1"))
    assert all((saved[name] == before[name]).all() for name in before)


def test_what_goes_wrong_beside_training_is_told_and_earlier_checkpoints_stay(tmp_path):
    manager = CheckpointManager(str(tmp_path))
    manager.save(1, small())
    manager.wait()
    big = {"output_weights": np.ones([400, 400], np.float32)}
    with files_limited_to(20_000), pytest.raises(OSError, match="could not save .*ckpt-2: .*space"):
        manager.save(2, big)
        while True:  # as the loop does after each step
            manager.check()
    assert manager.latest() == f"{tmp_path}/model.ckpt-1" and steps_in(tmp_path) == [1]
    manager.save(2, small())
    assert manager.latest() == f"{tmp_path}/model.ckpt-2"


def test_a_folder_that_vanishes_is_not_made_anew(tmp_path):
    manager = CheckpointManager(str(tmp_path / "run"))
    manager.save(1, small())
    manager.wait()
    shutil.rmtree(tmp_path / "run")
    manager.save(2, small())
    with pytest.raises(FileNotFoundError, match="with its checkpoints, has vanished"):
        manager.wait()


def test_who_does_not_write_changes_nothing(tmp_path):
    with CheckpointManager(str(tmp_path), writes=False) as manager:
        assert manager.save(1, small()) == f"{tmp_path}/model.ckpt-1"
        assert not manager.offer_best(f"{tmp_path}/model.ckpt-1", 1.0)
    assert os.listdir(tmp_path) == []


def steps_in(folder):
    return sorted(int(path.stem.rsplit("-", 1)[1]) for path in Path(folder).glob("*.index"))


def test_the_last_five_and_the_best_stay(tmp_path):
    manager = CheckpointManager(str(tmp_path))
    for step in range(1, 9):
        prefix = manager.save(step, small() | {"global_step": np.int64(step)})
        assert manager.offer_best(prefix, {2: 0.5, 3: 0.8, 4: float("nan")}.get(step, 0.1)) is (
            step <= 3
        )
    assert steps_in(tmp_path) == [3, 4, 5, 6, 7, 8]
    manager = CheckpointManager(str(tmp_path))  # a restart
    assert manager.best() == f"{tmp_path}/model.ckpt-3"
    assert manager.latest() == tf.train.latest_checkpoint(str(tmp_path))
    prefix = manager.save(9, small())
    manager.wait()
    assert steps_in(tmp_path) == [3, 5, 6, 7, 8, 9]
    assert manager.offer_best(prefix, 0.9)
    assert manager.best() == prefix and steps_in(tmp_path) == [5, 6, 7, 8, 9]
    assert checkpoints.locate(tmp_path).weights == prefix
    names = sorted(os.listdir(tmp_path))
    assert [name for name in names if "ckpt" not in name] == ["best_checkpoint.json", "checkpoint"]
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert [os.path.basename(x) for x in state.all_model_checkpoint_paths] == [
        f"model.ckpt-{step}" for step in (5, 6, 7, 8, 9)
    ]


def test_a_damaged_latest_checkpoint_is_skipped_with_a_message(tmp_path, caplog):
    manager = CheckpointManager(str(tmp_path))
    for step in (10, 20, 30):
        manager.save(step, small() | {"global_step": np.int64(step)})
    manager.wait()
    data = tmp_path / "model.ckpt-30.data-00000-of-00001"
    flip(data, 3)
    (tmp_path / "model.ckpt-20.index").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        prefix, tensors = manager.restore_latest()
    assert prefix == f"{tmp_path}/model.ckpt-10" == manager.latest()
    assert tensors["global_step"] == 10
    assert "Skipping checkpoint" in caplog.text and str(data) in caplog.text
    manager.save(20, small())
    assert manager.latest() == f"{tmp_path}/model.ckpt-20"


def test_a_lost_list_is_made_good_from_the_files(tmp_path):
    manager = CheckpointManager(str(tmp_path))
    for step in (9, 10):
        manager.save(step, small())
    manager.wait()
    (tmp_path / "checkpoint").unlink()
    assert manager.latest() == f"{tmp_path}/model.ckpt-10"


def assert_nothing_is_found(manager):
    assert manager.latest() is None and manager.best() is None and manager.restore_latest() is None


def test_looking_changes_nothing(tmp_path):
    assert_nothing_is_found(CheckpointManager(str(tmp_path / "none")))
    assert os.listdir(tmp_path) == []
    going_on = tmp_path / ".saving-model.ckpt-5" / "model.ckpt-5.index"  # a save by another process
    going_on.parent.mkdir()
    going_on.write_text("half")
    manager = CheckpointManager(str(tmp_path))
    assert_nothing_is_found(manager)
    assert going_on.exists()
    manager.remove_stale()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="keep=0"):
        CheckpointManager(str(tmp_path), keep=0)


@pytest.mark.parametrize("note", ["", "{", "[1]", '{"score": 1}', '{"checkpoint": 5, "score": 1}'])
def test_a_damaged_note_of_the_best_is_ignored_with_a_warning(tmp_path, caplog, note):
    manager = CheckpointManager(str(tmp_path))
    (tmp_path / "best_checkpoint.json").write_text(note)
    with caplog.at_level("WARNING", logger="absl"):
        prefix = manager.save(1, small())
        assert manager.best() is None
    assert f"{tmp_path}/best_checkpoint.json is damaged" in caplog.text
    assert manager.offer_best(prefix, 0.5) and manager.best() == prefix


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    manager = CheckpointManager(str(tmp_path))
    assert not manager.offer_best(manager.save(1, small()), float("nan"))
    assert manager.offer_best(manager.save(2, small()), 0.1)


def test_a_damaged_list_is_as_good_as_a_lost_one(tmp_path):
    manager = CheckpointManager(str(tmp_path))
    prefix = manager.save(1, small())
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe\x00")
    assert manager.latest() == prefix == checkpoints.locate(tmp_path).weights
