"""Truncated, bit-flipped and hostile files of every family: an error or the same numbers, always.

No crash, no hang, and no more memory than a small file deserves: the readers run in a process of
their own, whose address space is limited once all libraries are loaded.
"""

import io
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tracemalloc
import unittest.mock
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import checkpoints, heads
from bert_tf.checkpoints import google, keras_families, keras_h5, model_garden  # noqa: F401 (now)
from bert_tf.checkpoints.files import DamagedCheckpointError
from bert_tf.checkpoints.limits import Allowance
from bert_tf.checkpoints.pickles import ORDERED_DICT, Machine, UnsafePickleError
from bert_tf.config import BertConfig
from bert_tf.export.card import read_run
from bert_tf.vocabulary import load_vocab

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
FAMILIES = GOLDEN / "families"
FILES = {  # family -> the file that is damaged
    "google": GOLDEN / "keras_bert_test" / "bert_model.ckpt.index",
    "google data": GOLDEN / "keras_bert_test" / "bert_model.ckpt.data-00000-of-00001",
    "safetensors": GOLDEN / "torch" / "model.safetensors",
    "zip.bin": GOLDEN / "torch" / "zip.bin",
    "legacy.bin": GOLDEN / "torch" / "legacy.bin",
    "model garden": FAMILIES / "model_garden_v2" / "bert_model.ckpt-1.index",
    "model garden data": FAMILIES / "model_garden_v2" / "bert_model.ckpt-1.data-00000-of-00001",
    "TF-Hub": FAMILIES / "tf_hub" / "variables" / "variables.index",
    "TF-Hub data": FAMILIES / "tf_hub" / "variables" / "variables.data-00000-of-00001",
    "KerasHub": FAMILIES / "keras_hub" / "model.weights.h5",
    "tf_model.h5": FAMILIES / "hugging_face_tf" / "tf_model.h5",
    "bert4keras": FAMILIES / "bert4keras" / "bert4keras.h5",
    "keras-bert": FAMILIES / "keras_bert" / "keras_bert.h5",
    "ERNIE 1": FAMILIES / "ernie_1" / "ernie.pdparams",
    "ERNIE 3": FAMILIES / "ernie_3" / "model_state.pdparams",
}


def keras_archive(folder):
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        file.write(FILES["KerasHub"], "model.weights.h5")
    return path


def own_keras_file(folder):
    model = heads.classifier(BertConfig(9, 4, 1, 2, 8), 2)
    return Path(checkpoints.save(model, folder, "keras"))


def shards(folder):
    tensors = safetensors.numpy.load_file(FILES["safetensors"])
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        safetensors.numpy.save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}), "utf-8")
    return path


MADE = {"keras archive": keras_archive, "weights.h5": own_keras_file, "shard index": shards}
LIMIT = 64 << 20  # bytes; the largest of these files has 0.1 MB


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Family -> (a copy of the file in a folder with what belongs to it, its bytes)."""
    folder = tmp_path_factory.mktemp("hostile")
    found = {}
    for number, (family, file) in enumerate(FILES.items()):
        shutil.copytree(file.parent, folder / str(number))
        found[family] = (folder / str(number) / file.name, file.read_bytes())
    for family, make in MADE.items():
        (folder / family).mkdir()
        path = make(folder / family)
        found[family] = (path, path.read_bytes())
    return found


def read(path):
    """What the reader says: None for an error that names the file, else the tensors."""
    try:
        return checkpoints.read(path)
    except ValueError as error:
        assert str(path.parent) in str(error), error
        return None


@pytest.mark.parametrize("family", [*FILES, *MADE])
def test_truncated_files(copies, family):
    path, original = copies[family]
    for length in {0, 1, 9, len(original) // 3, len(original) // 2, len(original) - 1}:
        path.write_bytes(original[:length])
        with pytest.raises(DamagedCheckpointError) as error:
            checkpoints.read(path)
        assert str(path).rpartition(".")[0] in str(error.value)
    path.write_bytes(original)
    assert read(path) is not None


@pytest.mark.parametrize("family", [*FILES, *MADE])
@given(data=st.data())
@settings(max_examples=15)
def test_flipped_bits_and_replaced_pieces(copies, family, data):
    path, original = copies[family]
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(original) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=9))
        damaged[start : start + len(piece)] = piece
    path.write_bytes(damaged)
    tracemalloc.start()
    try:
        read(path)
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()
        path.write_bytes(original)


def test_a_heap_that_the_library_would_go_round_in(copies):
    path, original = copies["KerasHub"]
    start = original.index(b"GCOL") + 16
    path.write_bytes(original[:start] + bytes(16) + original[start + 16 :])
    with pytest.raises(DamagedCheckpointError, match="0 bytes in a heap of 4096"):
        checkpoints.read(path)
    path.write_bytes(original)


class Calls:
    """Pickles as a call of a function of the operating system's."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("ending", ["bin", "pdparams"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_that_call_are_refused_before_they_do(tmp_path, ending, protocol):
    path = tmp_path / f"model.{ending}"
    path.write_bytes(pickle.dumps({"a": Calls(tmp_path / "touched")}, protocol))
    with pytest.raises(ValueError, match=f"model.{ending} is refused: it asks for "):
        checkpoints.read(path)
    assert not (tmp_path / "touched").exists()


def hostile_pickles():
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR"
    yield "sizes beyond the file", b"\x80\x04}X\x01\x00\x00\x00a\x8e" + struct.pack("<Q", 1 << 60)
    yield "memo beyond the file", b"\x80\x04}r\xff\xff\xff\x7f."
    yield (
        "a shape without numbers",
        (
            b"\x80\x04}X\x01\x00\x00\x00a"
            + array
            + b"(K\x01(J\xff\xff\xff\x7ft"
            + dtype
            + b"\x89C\x00tbs."
        ),
    )
    yield (
        "objects in arrays",
        (
            b"\x80\x04}X\x01\x00\x00\x00a"
            + array
            + b"(K\x01(K\x01t"
            + dtype.replace(b"f4", b"O8")
            + b"\x89C\x08abcdefghtbs."
        ),
    )
    yield "no dictionary", b"\x80\x04]."
    yield "a number for an array", b"\x80\x04}X\x01\x00\x00\x00aK\x01s."


@pytest.mark.parametrize(("what", "contents"), list(hostile_pickles()))
def test_hostile_pickles_of_paddle(tmp_path, what, contents):
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(contents)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedCheckpointError, match="model_state.pdparams is damaged"):
            checkpoints.read(path)
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["numpy.testing", "numpy.f2py.crackfortran", "os"])
def test_other_globals_of_pickles_are_refused(tmp_path, name):
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(f"\x80\x02c{name}\nsystem\n.".encode("latin1"))
    with pytest.raises(UnsafePickleError, match=f"asks for {name}.system"):
        checkpoints.read(path)


def keras_2_file(path, **options):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"Embedding-Token", b"Transformer-0-FeedForward-Norm"]
        for layer in ("Embedding-Token", "Transformer-0-FeedForward-Norm"):
            file.create_group(layer).attrs["weight_names"] = [b"w:0"]
            file[layer].create_dataset("w:0", dtype="f4", **options)
    return path


def test_hdf5_that_swells_points_elsewhere_or_holds_code(tmp_path):
    zeros = {"shape": (1 << 28,), "chunks": (1 << 20,), "compression": "gzip"}  # 1 GB
    (tmp_path / "secret").write_bytes(bytes(16))
    outside = {"shape": (4,), "external": [(str(tmp_path / "secret"), 0, 16)]}
    for options in (zeros, outside):
        path = keras_2_file(tmp_path / "model.h5", **options)
        with pytest.raises(DamagedCheckpointError, match="w:0 is not in this file"):
            checkpoints.read(path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = '{"class_name": "Model", "x": {"class_name": "Lambda"}}'
    with pytest.raises(ValueError, match="model.h5 is refused: it has a Lambda layer"):
        checkpoints.read(path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"Embedding-Token"]
        file["Embedding-Token"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(DamagedCheckpointError):
        checkpoints.read(path)


def test_safetensors_headers_are_checked_before_memory_is_taken(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    for size in (len(header), 1 << 40):
        path.write_bytes(struct.pack("<Q", size) + header)
        with pytest.raises(DamagedCheckpointError, match="model.safetensors is damaged"):
            checkpoints.read(path)


def test_small_files_that_ask_for_much(tmp_path):
    """Each is read or an error, within seconds and half a gigabyte; see `hostile_files.py`."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    program = Path(__file__).parent / "hostile_files.py"
    command = [sys.executable, str(program), str(tmp_path), "512", "200"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    lines = [line.split("\t") for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (lines[-1:], ran.stderr[-2000:])
    assert len(lines) > 140
    assert not [line for line in lines if float(line[1]) > 20]
    harmless = {name for name, _, said in lines if said == "read"}
    # States of dictionaries are left aside; nothing is read from these HDF5 files but a number.
    assert harmless <= {"shared-state.bin", "deep-state.bin", "number.h5", "rank.h5"}
    said = {name: message for name, _, message in lines}
    assert "more than 500000 operations" in said["copies.bin"]
    assert "overlap" in said["slice-twice.ckpt"]
    assert "holds F8_E4M3 numbers" in said["f8.safetensors"]


def test_a_tensor_in_slices(tmp_path):
    """As TensorFlow's partitioned variables are saved; their keys in the index are no text."""
    rows = np.arange(9000 * 2, dtype="f4").reshape(9000, 2)
    parts = [(0, 64), (64, 8192 - 64), (8192, 9000 - 8192)]
    tf.raw_ops.SaveV2(
        prefix=f"{tmp_path}/x.ckpt",
        tensor_names=["a/b"] * len(parts),
        shape_and_slices=[f"9000 2 {start},{count}:-" for start, count in parts],
        tensors=[rows[start : start + count] for start, count in parts],
    )
    np.testing.assert_array_equal(checkpoints.read(tmp_path / "x.ckpt")["a/b"], rows)


def test_dictionaries_of_python_2_and_numbers_of_every_kind(tmp_path):
    program = (
        b"\x80\x02ccollections\nOrderedDict\n](](U\x01aL5L\ne](U\x01bG" + bytes(8) + b"ee\x85R."
    )
    machine = Machine({("collections", "OrderedDict"): ORDERED_DICT}, Allowance(0), "latin1")
    assert machine.load(io.BytesIO(program)) == {"a": 5, "b": 0.0}


def test_too_little_memory_is_our_error(tmp_path, monkeypatch):
    path = shutil.copy(FILES["zip.bin"], tmp_path / "model.bin")
    monkeypatch.setattr(np, "frombuffer", unittest.mock.Mock(side_effect=MemoryError))
    with pytest.raises(ValueError, match="model.bin needs more memory than there is"):
        checkpoints.read(path)


DESCRIPTIONS = ["modules.json", "tokenizer_config.json", "best_checkpoint.json", "labels.json"]
DESCRIPTIONS += ["task.json", "config.json", "run.json"]


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("contents", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b"5", b""])
def test_descriptions_that_are_no_json(tmp_path, name, contents):
    shutil.copy(FILES["safetensors"], tmp_path / "model.safetensors")
    (tmp_path / name).write_bytes(contents)

    def read_all():
        checkpoints.saved_labels(tmp_path)
        checkpoints.saved_task(tmp_path)
        checkpoints.config_of(checkpoints.locate(tmp_path))
        read_run(str(tmp_path))

    with pytest.raises(ValueError, match=f"{name} (is not valid|holds no) JSON"):
        read_all()


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("tokenizer_config.json", {"do_lower_case": "false"}),
        ("tokenizer_config.json", {"keep_special_tokens": [1]}),
        ("config.json", {"vocab_size": 9, "id2label": 5}),
        ("config.json", {"vocab_size": 9, "id2label": {"0": ["a"]}}),
        ("modules.json", [{"type": "x.Transformer", "path": ["0"]}]),
        ("task.json", {"task_type": ["classification"]}),
        ("labels.json", [["a"]]),
    ],
)
def test_descriptions_with_other_types(tmp_path, name, contents):
    shutil.copy(FILES["safetensors"], tmp_path / "model.safetensors")
    (tmp_path / name).write_text(json.dumps(contents), "utf-8")
    with pytest.raises(ValueError, match=name):
        (checkpoints.saved_labels(tmp_path), checkpoints.saved_task(tmp_path))


def test_architectures_that_are_no_list(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 9, "architectures": 5}', "utf-8")
    assert checkpoints.noted_task_type(tmp_path) is None


def test_a_config_that_is_too_large_for_the_weights(tmp_path):
    shutil.copy(FILES["safetensors"], tmp_path / "model.safetensors")
    values = {"vocab_size": 9, "num_hidden_layers": 1000, "hidden_size": 768}
    (tmp_path / "config.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(ValueError, match="config.json describes a model of at least 7,0.* numbers"):
        checkpoints.config_of(checkpoints.locate(tmp_path))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "config.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    for read_file in (BertConfig.from_json_file, load_vocab):
        with pytest.raises(OSError, match="config.json"):
            read_file(str(path))


def test_a_limited_process_reads_every_damaged_file(copies, tmp_path):
    """What tracemalloc does not see, memory of C++ and HDF5, is bounded as well."""
    code = (
        "import resource, sys, random, pathlib\n"
        "from bert_tf import checkpoints\n"
        "def attempt(path):\n"
        "    try: checkpoints.read(path)\n"
        "    except ValueError: pass\n"
        "paths = [pathlib.Path(x) for x in sys.argv[2:]]\n"
        "for path in paths: attempt(path)\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * 4096\n"
        "limit = used + int(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "for path in paths:\n"
        "    original, chance = path.read_bytes(), random.Random(1)\n"
        "    for _ in range(40):\n"
        "        damaged = bytearray(original)\n"
        "        start = chance.randrange(len(damaged))\n"
        "        damaged[start:start + 8] = chance.randbytes(8)\n"
        "        path.write_bytes(damaged)\n"
        "        attempt(path)\n"
        "    path.write_bytes(original)\n"
        "print('alive')\n"
    )
    if not Path("/proc/self/statm").exists() or not hasattr(resource, "RLIMIT_AS"):
        pytest.skip("needs Linux's /proc")
    paths = [str(path) for path, _ in copies.values()]
    command = [sys.executable, "-c", code, str(8 * LIMIT), *paths]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.stdout.endswith("alive\n"), ran.stderr[-2000:]
    assert np.all([path.read_bytes() == original for path, original in copies.values()])
