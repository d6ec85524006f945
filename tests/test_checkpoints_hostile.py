"""Truncated, bit-flipped and hostile files of every family: an error or the same numbers, always.

No crash, no hang, and no more memory than a small file deserves: the readers run in a process of
their own, whose address space is limited once all libraries are loaded.
"""

import json
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import checkpoints, heads
from bert_tf.checkpoints import google, keras_families, keras_h5, model_garden  # noqa: F401 (now)
from bert_tf.checkpoints.files import DamagedCheckpointError
from bert_tf.checkpoints.pytorch import UnsafePickleError
from bert_tf.config import BertConfig

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
