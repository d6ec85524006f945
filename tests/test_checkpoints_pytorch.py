"""Pickles that are no weights are refused, and nothing in them runs."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bert_tf import checkpoints
from bert_tf.checkpoints.files import DamagedCheckpointError
from bert_tf.checkpoints.pickles import UnsafePickleError


class Call:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def write_bin(path, program, storages=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        for number, data in enumerate(storages):
            archive.writestr(f"archive/data/{number}", data)
    return str(path)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, r"_*builtins?_*.eval"),
        (getattr, r"_*builtins?_*.getattr"),
        (np.frombuffer, r"numpy\S*.frombuffer"),
    ],
)
def test_malicious_pickles_are_refused_and_run_nothing(tmp_path, layout, function, name):
    target = tmp_path / "run"
    argument = f"touch {target}" if function is os.system else f"open({str(target)!r}, 'w')"
    program = pickle.dumps({"weight": Call(function, argument)}, 2)
    path = str(tmp_path / "pytorch_model.bin")
    if layout == "zip":
        write_bin(path, program)
    else:
        Path(path).write_bytes(program)
    with pytest.raises(UnsafePickleError, match=f"pytorch_model.bin is refused: .*{name}, which"):
        checkpoints.read(path)
    assert not target.exists()


def pickled_tensor(shape, strides, offset=0, count=4, key="0"):
    """The program of {"w": tensor}, as torch.save writes it, in protocol 2."""
    out = io.BytesIO()

    def ints(values):
        return b"(" + b"".join(b"J" + v.to_bytes(4, "little", signed=True) for v in values) + b"t"

    out.write(b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((")
    out.write(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key.encode())
    out.write(b"X\x03\x00\x00\x00cpuJ" + count.to_bytes(4, "little", signed=True) + b"tQ")
    out.write(b"J" + offset.to_bytes(4, "little", signed=True) + ints(shape) + ints(strides))
    out.write(b"\x89}tRs.")
    return out.getvalue()


STORAGE = np.arange(4, dtype=np.float32).tobytes()


def test_a_handmade_tensor(tmp_path):
    path = write_bin(tmp_path / "x.bin", pickled_tensor((2, 2), (1, 2)), [STORAGE])
    np.testing.assert_array_equal(checkpoints.read(path)["w"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": (5,), "strides": (1,)},
        {"shape": (2,), "strides": (1,), "offset": 3},
        {"shape": (2, 2), "strides": (3, 1)},
        {"shape": (1 << 30, 1 << 30), "strides": (0, 0)},
        {"shape": (-1,), "strides": (1,)},
        {"shape": (2,), "strides": (-1,), "offset": 1},
        {"shape": (2,), "strides": (1,), "offset": -1},
        {"shape": (2,), "strides": (1, 1)},
        {"shape": (2,), "strides": (1,), "count": 1 << 30},
        {"shape": (2,), "strides": (1,), "count": -1},
        {"shape": (2,), "strides": (1,), "key": "9"},
    ],
    ids=str,
)
def test_tensors_that_leave_their_storage_are_refused(tmp_path, tensor):
    path = write_bin(tmp_path / "x.bin", pickled_tensor(**tensor), [STORAGE])
    with pytest.raises(DamagedCheckpointError, match=r"x.bin is damaged"):
        checkpoints.read(path)


def test_archives_that_swell_are_refused(tmp_path):
    program = pickled_tensor((4,), (1,))
    path = write_bin(tmp_path / "x.bin", program, [STORAGE], zipfile.ZIP_DEFLATED)
    with pytest.raises(DamagedCheckpointError, match="is compressed"):
        checkpoints.read(path)


@pytest.mark.parametrize("state", [[1, 2], {"w": 3.0}, {1: {}}])
def test_pickles_of_other_things_are_named(tmp_path, state):
    path = write_bin(tmp_path / "x.bin", pickle.dumps(state, 2))
    with pytest.raises(DamagedCheckpointError, match=r"x.bin is damaged .*not a "):
        checkpoints.read(path)


@pytest.mark.parametrize("opcode", [b"r\xff\xff\xff\x3f", b"p9999999999\n"])
def test_a_pickle_cannot_claim_memory(tmp_path, opcode):
    path = write_bin(tmp_path / "x.bin", b"\x80\x02}" + opcode + b".")
    with pytest.raises(DamagedCheckpointError, match="PUT with index"):
        checkpoints.read(path)


def test_a_pickle_cannot_change_the_unpickler(tmp_path):
    # BUILD sets attributes of the object before it: here of what stands for FloatStorage.
    program = b"\x80\x02ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeK\x01sb."
    with pytest.raises(DamagedCheckpointError):
        checkpoints.read(write_bin(tmp_path / "x.bin", program))
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00xK\x01sb."
    with pytest.raises(DamagedCheckpointError):
        checkpoints.read(write_bin(tmp_path / "x.bin", program))
