"""Small files that ask for endless time or memory, or end the process of a careless reader.

`python hostile_files.py FOLDER MEGABYTES SECONDS` makes them all, then reads each: what is said of
it is printed, one line a file. The limits are those of this process.
"""

import io
import json
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
from pathlib import Path

import google_crc32c
import h5py
import numpy as np
from tensorflow.core.framework import tensor_shape_pb2, tensor_slice_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2

NAME = b"X\x01\x00\x00\x00a"
SHARED = b")q\x01" + b"0h\x01h\x01\x86q\x01" * 60  # 2^60 tuples in 60
DEEP = b")" + b"\x85" * 200_000
HUGE = b"\x8b" + struct.pack("<i", 1 << 20) + b"\x01" * (1 << 20)  # 8 million bits
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
DTYPE = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR(K\x03X\x01\x00\x00\x00<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
LEGACY = (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps({"little_endian": True}, 2)
)


def number(value):
    return b"J" + struct.pack("<i", value)


def programs():
    """Pickles that are neither of PyTorch's weights nor of Paddle's."""
    for what, thing in (("shared", SHARED), ("deep", DEEP), ("huge", HUGE)):
        yield f"{what}-key", b"\x80\x04}" + thing + b"K\x01s."
        yield f"{what}-value", b"\x80\x04}" + NAME + thing + b"s."
        yield f"{what}-call", b"\x80\x02ccollections\nOrderedDict\n" + thing + b"R."
        yield f"{what}-state", b"\x80\x02ccollections\nOrderedDict\n)R" + thing + b"b."
        yield f"{what}-root", b"\x80\x02" + thing + b"."
        yield f"{what}-callee", b"\x80\x02" + thing + b")R."
        yield f"{what}-global", b"\x80\x04" + thing + thing + b"\x93."
    yield "operations", b"\x80\x04" + b"}0" * 2_000_000 + b"."
    pairs = b"](" + b"](K\x01K\x02e" * 20_000 + b"eq\x02"
    calls = b"0" + b"h\x01h\x02\x85R0" * 20_000
    yield "copies", b"\x80\x04ccollections\nOrderedDict\nq\x01" + pairs + calls + b"."


def zipped(program, *storages):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", program)
        for count, data in enumerate(storages):
            archive.writestr(f"a/data/{count}", data)
    return file.getvalue()


def views(count, numbers, shape, strides):
    """A state dict of so many views of one storage."""
    tensor = TENSOR + STORAGE + number(numbers) + b"tQK\x00" + shape + strides + b"\x89}tR"
    names = (b"X\x04\x00\x00\x00%04d" % i for i in range(count))
    return b"\x80\x02}(" + b"".join(name + tensor for name in names) + b"u."


def torch_files():
    for what, program in programs():
        yield f"{what}.bin", zipped(program)
        yield f"legacy-{what}.bin", LEGACY + program
    for what, thing in (("shared", SHARED), ("deep", DEEP), ("huge", HUGE)):
        pid = b"(" + NAME + thing + NAME + NAME + b"K\x01tQ."
        yield f"{what}-pid.bin", zipped(b"\x80\x02" + pid)
        yield f"{what}-magic.bin", b"\x80\x02" + thing + b"."
        yield f"{what}-keys.bin", LEGACY + b"\x80\x02}.\x80\x02](" + thing + b"e."
        shapes = TENSOR + STORAGE + b"K\x01tQK\x00(" + thing + b"t(K\x01t\x89}tR"
        yield f"{what}-shape.bin", zipped(b"\x80\x02}" + NAME + shapes + b"s.", bytes(4))
    million = number(1 << 20)
    storage = bytes(4 << 20)
    for what, shape, strides in (
        ("whole", b"(" + million + b"t", b"(K\x01t"),
        ("still", b"(" + million + b"t", b"(K\x00t"),
        ("strided", b"(" + number(1 << 10) * 2 + b"t", b"(K\x01" + number(1 << 10) + b"t"),
    ):
        yield f"views-{what}.bin", zipped(views(1000, 1 << 20, shape, strides), storage)


def paddle_files():
    for what, program in programs():
        yield f"{what}.pdparams", program
    for what, thing in (("shared", SHARED), ("deep", DEEP), ("huge", HUGE)):
        array = ARRAY + b"(K\x01(" + thing + b"t" + DTYPE + b"\x89C\x00tb"
        yield f"{what}-shape.pdparams", b"\x80\x04}" + NAME + array + b"s."
        yield f"{what}-type.pdparams", b"\x80\x04cnumpy\ndtype\n" + thing + b"\x85R."
        yield f"{what}-codec.pdparams", b"\x80\x04c_codecs\nencode\n" + NAME + thing + b"\x86R."
    data = b"B" + struct.pack("<I", 4 << 20) + bytes(4 << 20) + b"q\x05"
    array = ARRAY + b"(K\x01(" + number(1 << 20) + b"t" + DTYPE + b"\x89h\x05tb"
    many = b"".join(b"X\x04\x00\x00\x00%04d" % i + array for i in range(1000))
    yield "views.pdparams", b"\x80\x04" + data + b"0}(" + many + b"u."
    text = b"X" + struct.pack("<I", 4 << 20) + b"a" * (4 << 20) + b"q\x05"
    calls = b"c_codecs\nencode\nh\x05\x85R" * 1000
    yield "copies-text.pdparams", b"\x80\x04" + text + b"0](" + calls + b"e."


def keras_files(folder):
    """Writes them, and returns their paths."""
    paths = []

    def made(name):
        paths.append(folder / name)
        return h5py.File(paths[-1], "w")

    with made("repeated.h5") as file:
        file.attrs["layer_names"] = [b"Transformer-0-FeedForward-Norm"]
        group = file.create_group("Transformer-0-FeedForward-Norm")
        group.attrs["weight_names"] = [b"w"] * 1000
        group["w"] = np.zeros(1 << 20, "f4")
    with made("fill-values.h5") as file:
        file["ballast"] = np.zeros(1 << 20, "f4")
        for count in range(1000):
            file.create_dataset(f"x{count}", (1 << 20,), "f4", fillvalue=1.0)
    with made("nested.h5") as file:
        group = file
        for _ in range(3000):
            group = group.create_group("g")
    with made("texts.h5") as file:
        file["ballast"] = np.zeros(1 << 20, "f4")
        text = file.attrs
        text["layer_names"] = np.array(["x" * 60_000] + [""] * 2000, object)
        text["model_config"] = "y" * 60_000
    with made("chunk.h5") as file:
        large = {"chunks": (1 << 28,), "maxshape": (None,), "compression": "gzip"}
        file.create_dataset("layers/a/vars/0", (1,), "f4", **large)
    with made("chunks.h5") as file:
        file["ballast"] = np.zeros(1 << 22, "u1")
        file.create_dataset("x", (1 << 22,), "u1", chunks=(1,))
    os.mkfifo(folder / "pipe.h5.fifo")
    with made("outside.h5") as file:
        file.attrs["layer_names"] = [b"a"]
        file["a"] = h5py.ExternalLink(str(folder / "pipe.h5.fifo"), "/")
    with made("types.h5") as file:
        file.create_dataset("layers/a/vars/0", (1000,), h5py.vlen_dtype(np.float32))
    with made("number.h5") as file:
        file.attrs["layer_names"] = [b"Transformer-0-x", b"Transformer-" + b"1" * 4000 + b"-Norm"]
        for layer in ("Transformer-0-x", "Transformer-" + "1" * 4000 + "-Norm"):
            file.create_group(layer).attrs["weight_names"] = np.array([], "S1")
    with made("rank.h5") as file:
        file.attrs["layer_names"] = [b"Transformer-0-FeedForward-Norm", b"Embedding-Token"]
        for layer in ("Transformer-0-FeedForward-Norm", "Embedding-Token"):
            file.create_group(layer).attrs["weight_names"] = [b"kernel:0"]
            file[layer]["kernel:0"] = np.float32(1)
    return paths


def checksum(data):
    value = google_crc32c.value(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def block(items, restarts=(0,)):
    """A block of a table, with its trailer."""
    body = b"".join(
        b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in items
    )
    body += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + b"\0"
    return body + checksum(body)


def index(*items, restarts=(0,), shards=1):
    """The index of a checkpoint, with right checksums."""
    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=shards)
    header.version.producer = 1
    data = block([(b"", header.SerializeToString()), *items], restarts)
    tables = [data, block([])]
    starts = [0, len(data)]
    handle = varint(0) + varint(len(data) - 5)
    tables.append(block([(b"\xff", handle)]))
    starts.append(len(data) + len(tables[1]))
    footer = b"".join(varint(starts[i]) + varint(len(tables[i]) - 5) for i in (1, 2))
    return b"".join(tables) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def entry(shape=(2,), dtype=1, size=8, slices=(), **others):
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in shape]
    message = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, size=size, **others)
    message.shape.CopyFrom(tensor_shape_pb2.TensorShapeProto(dim=dims))
    for start, length in slices:
        extent = tensor_slice_pb2.TensorSliceProto.Extent(start=start, length=length)
        message.slices.append(tensor_slice_pb2.TensorSliceProto(extent=[extent]))
    return message.SerializeToString()


def tables():
    """Indices, and the data that belongs to each."""
    eight = bytes(8)
    entries = {
        "negative": entry((-1,)),
        "rank": entry((1,) * 300, size=4),
        "overflow": entry((1 << 40, 1 << 40)),
        "empty-overflow": entry((1 << 61, 1 << 61, 0), size=0),
        "reference": entry(dtype=101),
        "resource": entry(dtype=20),
        "variant": entry(dtype=21),
        "unknown": entry(dtype=77),
        "no-type": entry(dtype=0),
        "size": entry((1000,)),
        "shard": entry(shard_id=5),
        "offset": entry(offset=1 << 62),
        "before": entry(offset=-8),
        "slice-missing": entry(size=0, slices=[(0, 1), (1, 1)]),
        "slice-outside": entry(size=0, slices=[(0, 1 << 40)]),
        "slice-rank": entry((2, 2), size=0, slices=[(0, 2)]),
        "texts": entry((1 << 50,), dtype=7),
        "broken": b"\xff\xff\xff",
    }
    for what, value in entries.items():
        yield what, index((b"w", value)), eight
    text = varint(1 << 40)
    yield "text", index((b"w", entry((), 7, len(text) + 8))), text + checksum(text) + b"abcd"
    part = b"\0w\0\x01\x01\x01\x80\x82"  # the key of w's slice [0:2]
    both = entry(size=0, slices=[(0, 2), (0, 2)])
    yield "slice-twice", index((part, entry()), (b"w", both)), eight
    other = index((part, entry((1,), size=4)), (b"w", entry(size=0, slices=[(0, 2)])))
    yield "slice-shape", other, eight
    yield "twice", index((b"w", entry()), (b"w", entry())), eight
    yield "order", index((b"x", entry()), (b"w", entry())), eight
    yield "restarts", index((b"w", entry()), restarts=(0, 7)), eight
    yield "restarts-outside", index((b"w", entry()), restarts=(0, 1 << 31)), eight
    yield "shards", index((b"w", entry()), shards=(1 << 31) - 1), eight
    many = [(b"%05d" % i, entry((1 << 20,), size=4 << 20)) for i in range(1000)]
    yield "overlapping", index(*many), bytes(4 << 20)
    yield "step", index((b"global_step", entry())), eight


def other_files(folder):
    """Writes files of Hugging Face's, and what is no file; returns the paths."""
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    deep = b"[" * 200_000
    rank = json.dumps({"a": {"dtype": "F32", "shape": [1] * 300, "data_offsets": [0, 4]}}).encode()
    empty = json.dumps({"a": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}})
    for name, text in (("f8", header), ("deep", deep), ("rank", rank), ("empty", empty.encode())):
        path = folder / f"{name}.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
        yield path
    os.mkfifo(folder / "pipe.safetensors")
    os.symlink("loop.safetensors", folder / "loop.safetensors")
    os.symlink("/dev/zero", folder / "zero.safetensors")
    (folder / "folder.safetensors").mkdir()
    for name in ("pipe", "loop", "zero", "folder"):
        yield folder / f"{name}.safetensors"
    shards = {name: f"{name}.safetensors" for name in ("pipe", "loop", "zero", "folder")}
    for name, shard in {**shards, "long": "x" * 5000 + ".bin", "list": ["x"], "text": 5}.items():
        path = folder / f"{name}.index.json"
        path.write_text(json.dumps({"weight_map": {"w": shard}}), "utf-8")
        yield path
    for name, text in (("deep-json", deep), ("list-json", b"[1]"), ("latin", b'"\xff"')):
        path = folder / f"{name}.index.json"
        path.write_bytes(text)
        yield path
    yield folder / ("x" * 5000 + ".bin")


def write_all(folder):
    """Writes every file into the folder and returns the paths."""
    paths = keras_files(folder)
    for name, contents in (*torch_files(), *paddle_files()):
        paths.append(folder / name)
        paths[-1].write_bytes(contents)
    for name, contents, data in tables():
        paths.append(folder / f"{name}.ckpt")
        (folder / f"{name}.ckpt.index").write_bytes(contents)
        (folder / f"{name}.ckpt.data-00000-of-00001").write_bytes(data)
    return [*paths, *other_files(folder)]


def main(folder, megabytes, seconds):
    from bert_tf import checkpoints
    from bert_tf.checkpoints import families, huggingface, keras_families, paddle  # noqa: F401

    paths = write_all(folder)
    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    limit = used + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + int(time.process_time()),) * 2)
    for path in paths:
        started = time.process_time()
        print(path.name[:60], end="\t", flush=True)  # the last one, should the process die
        try:
            checkpoints.read(path)
            said = "read"
        except ValueError as error:
            assert len(str(error)) < 20_000, len(str(error))  # names of files have their length
            assert str(folder) in str(error), error
            said = str(error)[:300].replace("\n", " ")
        print(f"{time.process_time() - started:.2f}\t{said}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
