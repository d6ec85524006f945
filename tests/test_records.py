"""TFRecord files: Google's features, whole or not at all, read in any order."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf.data.records import RecordFile, classification_spec, write

LENGTH = 6
SPEC = classification_spec(LENGTH, regression=False)


def make_rows(count):
    return [
        {
            "input_ids": [101, i, 30521, 102, 0, 0],
            "input_mask": [1, 1, 1, 1, 0, 0],
            "segment_ids": [0, 0, 1, 1, 0, 0],
            "label_ids": [i % 3],
            "is_real_example": [1],
        }
        for i in range(count)
    ]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "train.tf_record")


def test_features_are_google_s(path):
    assert write(path, make_rows(2), SPEC) == 2
    records = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(path)]
    features = records[1].features.feature
    assert {name: list(f.int64_list.value) for name, f in features.items()} == make_rows(2)[1]
    assert list(SPEC) == list(make_rows(1)[0])


def test_any_order(path):
    rows = make_rows(50)
    write(path, rows, SPEC)
    file = RecordFile(path, SPEC)
    assert len(file) == 50
    batch = file.batch(np.array([49, 0, 7, 7]))
    for name, values in batch.items():
        assert values.dtype == np.int32
        np.testing.assert_array_equal(values, [rows[i][name] for i in (49, 0, 7, 7)])
    assert batch["label_ids"].shape == (4, 1)


def test_regression_labels_are_floats(path):
    spec = classification_spec(LENGTH, regression=True)
    write(path, [row | {"label_ids": [2.5]} for row in make_rows(1)], spec)
    labels = RecordFile(path, spec).batch([0])["label_ids"]
    assert labels.dtype == np.float32 and labels.tolist() == [[2.5]]


def test_several_threads_read_one_file(path):
    write(path, make_rows(200), SPEC)
    file = RecordFile(path, SPEC)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda i: file.batch([i, 199 - i])["input_ids"][:, 1], range(200)))
    assert [b.tolist() for b in batches] == [[i, 199 - i] for i in range(200)]


def test_an_interrupted_write_leaves_what_was_there(path):
    write(path, make_rows(3), SPEC)

    def interrupted():
        yield from make_rows(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted(), SPEC)
    assert os.listdir(os.path.dirname(path)) == ["train.tf_record"]
    assert len(RecordFile(path, SPEC)) == 3


def test_what_a_killed_write_left_behind_goes(path):
    for name in (f"{path}.1234.partial", f"{path}.partial.txt"):
        with open(name, "w"):
            pass
    write(path, make_rows(1), SPEC)
    there = sorted(os.listdir(os.path.dirname(path)))
    assert there == ["train.tf_record", "train.tf_record.partial.txt"]


def test_a_row_of_another_length_is_refused(path):
    row = make_rows(1)[0] | {"segment_ids": [0]}
    with pytest.raises(ValueError, match="feature segment_ids has 1 values instead of 6"):
        write(path, [row], SPEC)


def test_a_file_of_another_length_is_named(path):
    write(path, make_rows(1), SPEC)
    with pytest.raises(
        ValueError, match=r"tf_record: not the features expected: .*size: 6 .*\[7\]"
    ):
        RecordFile(path, classification_spec(LENGTH + 1, regression=False)).batch([0])


def test_missing_and_empty_files_are_named(path):
    with pytest.raises(ValueError, match=r"train\.tf_record: not a complete TFRecord file"):
        RecordFile(path, SPEC)
    write(path, [], SPEC)
    with pytest.raises(ValueError, match=r"train\.tf_record: no examples"):
        RecordFile(path, SPEC)


@pytest.fixture(scope="module")
def three_records(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "three.tf_record"
    write(str(path), make_rows(3), SPEC)
    return path


@settings(max_examples=40)
@given(data=st.data())
def test_a_truncated_or_damaged_file_is_named(three_records, data):
    content = bytearray(three_records.read_bytes())
    record = len(content) // 3
    assert len(content) == 3 * record
    position = data.draw(st.integers(1, len(content) - 1))
    if data.draw(st.booleans()) and position % record:
        content = content[:position]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    damaged = three_records.with_name("damaged.tf_record")
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.tf_record: not a complete TFRecord file"):
        RecordFile(str(damaged), SPEC)
