"""Reading a BERT-base-sized checkpoint of every format: time and memory beside reading its bytes.

`python benchmarks/checkpoints.py`. Each format is read in a process of its own, in turns with
`Path.read_bytes` of the same files, all from the page cache, best of ROUNDS; in parentheses what
reading takes at least, into huge pages.
Memory is the peak of the process's own pages (RssAnon, looked at every millisecond) above what it
had after its imports; pages of a mapped file are the page cache's.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import machine, report, run_contender, versions

FORMATS = ("google", "huggingface", "half", "keras", "model_garden", "paddle")
ROUNDS = 5


def write(folder: Path) -> None:
    """BERT-base with random weights, in every format."""
    import ml_dtypes
    import numpy as np
    import safetensors.numpy

    from bert_tf import checkpoints
    from bert_tf.checkpoints import names, paddle
    from bert_tf.checkpoints.loading import named_weights
    from bert_tf.config import BertConfig
    from bert_tf.modeling import BertModel

    config = BertConfig(vocab_size=30522, type_vocab_size=2)
    model = BertModel(config)
    weights = {name: np.asarray(x) for name, x in named_weights(model).items()}
    for format in ("google", "huggingface", "keras", "model_garden"):
        checkpoints.save(weights, folder / format, format, config=config)
    (folder / "half").mkdir()
    theirs = names.to_hugging_face_tensors(weights)
    half = {name: x.astype(ml_dtypes.bfloat16) for name, x in theirs.items()}
    safetensors.numpy.save_file(half, folder / "half" / "model.safetensors")
    (folder / "paddle").mkdir()
    state = {paddle.to_paddle(name): x for name, x in weights.items()}
    with open(folder / "paddle" / "model_state.pdparams", "wb") as file:
        pickle.dump(state, file, protocol=4)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix not in (".json", ".txt")]


def read_bytes(paths: list[Path]) -> None:
    for path in paths:
        path.read_bytes()


def read_into_huge_pages(paths: list[Path]) -> None:
    """The least time there is: NumPy asks for pages of 2 MB, Python's bytes have pages of 4 KB."""
    import numpy as np

    for path in paths:
        with open(path, "rb", buffering=0) as file:
            view = memoryview(np.empty(path.stat().st_size, np.uint8))
            while view and (count := file.readinto(view)):
                view = view[count:]


def resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def measure(folder: Path) -> None:
    """A contender's process: peak of the first read, then times in turns."""
    import tensorflow  # noqa: F401

    from bert_tf import checkpoints
    from bert_tf.checkpoints import families, huggingface, keras_h5, model_garden, paddle  # noqa: F401
    from bert_tf.config import BertConfig
    from bert_tf.modeling import BertModel

    before, highest, done = resident("RssAnon"), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            highest[0] = max(highest[0], resident("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    weights = checkpoints.read(folder)
    done.set()
    watcher.join()
    peak = highest[0] - before
    kept = sum(x.nbytes for x in weights.values())
    del weights
    model = BertModel(BertConfig(vocab_size=30522, type_vocab_size=2))
    model.build()
    times: dict[str, list[float]] = {"bytes": [], "huge": [], "read": [], "load": []}
    for _ in range(ROUNDS):
        for name, run in (
            ("bytes", lambda: read_bytes(files(folder))),
            ("huge", lambda: read_into_huge_pages(files(folder))),
            ("read", lambda: checkpoints.read(folder)),
            ("load", lambda: checkpoints.load(model, folder)),
        ):
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    size = sum(path.stat().st_size for path in files(folder))
    report({"size": size, "kept": kept, "peak": peak} | {k: min(v) for k, v in times.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contender", help="a folder, read in this process")
    parser.add_argument("--formats", nargs="*", default=FORMATS, choices=FORMATS)
    arguments = parser.parse_args()
    if arguments.contender:
        measure(Path(arguments.contender))
        return
    print(machine(), versions("tensorflow", "numpy", "safetensors", "h5py"), sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for format in arguments.formats:
            command = ["--contender", os.path.join(folder, format)]
            x = run_contender(sys.executable, __file__, command)
            if x is not None:
                plain, load = x["bytes"], x["load"]
                print(
                    f"{format:<13}{x['size'] / 1e6:4.0f} MB  bytes {plain:.3f} s "
                    f"({x['huge']:.3f} s)  read {x['read']:.3f} s, {x['read'] / plain:.2f} times  "
                    f"into a model {load:.3f} s, {load / plain:.2f} times  "
                    f"peak {x['peak'] / x['kept']:.2f} of its {x['kept'] / 1e6:.0f} MB as float32",
                    flush=True,
                )


if __name__ == "__main__":
    main()
