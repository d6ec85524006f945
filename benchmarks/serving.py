"""bert-serving-start under load: texts a second and latencies, beside encoding in process.

    python benchmarks/serving.py --peer_python=peers/bin/python
    python benchmarks/serving.py --minutes=10 --clients=64     # memory

The clients are bert-serving-client's, unmodified, each with a connection of its own, in four
processes on the same cores as the server; each sends its next request when it has the answer to
the last. "In process" is this package without a server: texts sorted by length, one process with
all cores. The peer is sentence-transformers' `encode` of the same weights. Both with batches of 32
and of 256, of which the better counts. All make the mean of the last layer's vectors of the same
texts. Every round runs all of them in turn; the best of each counts, and a ratio is that of the
bests.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).parent.parent
LENGTH, COUNT = 128, 2048
PROCESSES = 4
BATCHES = (32, 256)
WARM_UP = 3.0  # seconds
LARGE_REQUESTS = (16, 16)  # clients, texts of each request; else one text


def texts(kind: str) -> list[str]:
    """Sentences of the bundled MultiNLI sample; "mixed" ones are up to six of them in a row."""
    lines = (ROOT / "examples" / "mnli" / "train.tsv").read_text("utf-8").splitlines()
    column = lines[0].split("\t").index("sentence2")
    sentences = [line.split("\t")[column] for line in lines[1:]]
    number = random.Random(1)
    if kind == "short":
        return number.sample(sentences, COUNT)
    counts = [number.choice((1, 1, 2, 3, 6)) for _ in range(COUNT)]
    return [" ".join(number.sample(sentences, count)) for count in counts]


# --------------------------------------------------------------------------------- in process


def in_process(options: argparse.Namespace) -> None:
    """A contender: this package in one process."""
    from bert_tf.serving import assets, flags
    from bert_tf.serving.model import ServedModel
    from bert_tf.serving.rows import RowMaker, features

    plan, tokenizer = assets.read(flags.parser().parse_args(_flags(options.model)))
    rows_of, model = RowMaker(plan, tokenizer), ServedModel(plan)
    found = texts(options.in_process)

    def encode(size: int) -> None:
        rows = [rows_of((text, None)) for text in found]
        rows.sort(key=lambda row: len(row.input_ids))
        for start in range(0, len(rows), size):
            model(features(rows[start : start + size], mask_special=False))

    pieces = [len(rows_of((text, None)).input_ids) for text in found]
    common.report({"rates": _rates(encode, options.repeats), "pieces": statistics.mean(pieces)})


def _rates(encode: Callable[[int], object], repeats: int) -> dict[int, float]:
    """Texts a second by size of batch."""
    return {
        size: COUNT / common.best_seconds(lambda size=size: encode(size), repeats, warm_up=1)
        for size in BATCHES
    }


def peer(options: argparse.Namespace) -> None:
    """A contender: sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(options.model, device="cpu")
    model.max_seq_length = LENGTH
    found = texts(options.peer)
    rates = _rates(lambda size: model.encode(found, batch_size=size), options.repeats)
    common.report({"rates": rates, "versions": common.versions("sentence-transformers", "torch")})


# --------------------------------------------------------------------------------- the server


def _flags(model: str) -> list[str]:
    return ["-model_dir", model, f"-max_seq_len={LENGTH}", "-pooling_layer", "-1"]


class Server:
    """The real program, with a worker for each core."""

    def __init__(self, options: argparse.Namespace):
        command = [sys.executable, "-m", "bert_tf.serving", *_flags(options.model)]
        command += [f"-num_worker={options.num_worker}", "-port=0", "-port_out=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        line = self.process.stdout.readline()
        self.ports = tuple(map(int, re.search(r":(\d+), results at (\d+)", line).groups()))
        while "is ready" not in self.process.stdout.readline():
            pass

    def resident_mb(self) -> float:
        """Of the server and its workers."""
        of = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        pids = [self.process.pid, *map(int, Path(of).read_text().split())]
        sizes = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in pids]
        return sum(map(int, sizes)) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def _clients(ports, kind, count, seconds, per_request, results) -> None:
    """Some of the clients, a thread each.

    Puts the latencies of what came after the warm-up, and the seconds of a core that it took.
    """
    from bert_serving.client import BertClient

    found, start = texts(kind), time.monotonic()
    latencies: list[float] = []

    def ask(number: int) -> None:
        order = random.Random(number)
        with BertClient(port=ports[0], port_out=ports[1], check_length=False) as client:
            while (asked := time.monotonic()) < start + WARM_UP + seconds:
                client.encode(order.sample(found, per_request))
                now = time.monotonic()
                if start + WARM_UP <= now < start + WARM_UP + seconds:
                    latencies.append(now - asked)

    threads = [threading.Thread(target=ask, args=(os.getpid() + n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, start + WARM_UP - time.monotonic()))
    busy = -time.process_time()
    time.sleep(max(0.0, start + WARM_UP + seconds - time.monotonic()))
    busy += time.process_time()
    for thread in threads:
        thread.join()
    results.put((latencies, busy))


def load(server: Server, kind: str, clients: int, seconds: float, per_request: int):
    """Texts a second, median and 99th percentile of the latency (ms), the clients' share of CPU."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    shares = [len(range(p, clients, PROCESSES)) for p in range(min(clients, PROCESSES))]
    running = [
        context.Process(
            target=_clients, args=(server.ports, kind, share, seconds, per_request, results)
        )
        for share in shares
    ]
    for process in running:
        process.start()
    found = [results.get() for _ in running]
    latencies = sorted(x for some, _ in found for x in some)
    if not latencies:
        raise RuntimeError(f"{clients} clients got no answer within {seconds} s")
    for process in running:
        process.join()
    at = [1000 * latencies[int(q * (len(latencies) - 1))] for q in (0.5, 0.99)]
    cores = len(os.sched_getaffinity(0))
    return per_request * len(latencies) / seconds, *at, sum(x for _, x in found) / seconds / cores


# ------------------------------------------------------------------------------------- the report


def rounds(options: argparse.Namespace) -> None:
    script, model = str(Path(__file__)), ["--model", options.model]
    ours: dict[str, float] = {}
    peers: dict[str, float] = {}
    loads: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for _ in range(options.rounds):
        for kind in options.kinds:
            found = common.run_contender(sys.executable, script, [f"--in_process={kind}", *model])
            ours[kind] = max(ours.get(kind, 0.0), *found["rates"].values())
            print(f"{kind}: {found['pieces']:.1f} pieces a text; in process {_shown(found)}")
            theirs = common.run_contender(options.peer_python, script, [f"--peer={kind}", *model])
            if theirs:
                peers[kind] = max(peers.get(kind, 0.0), *theirs["rates"].values())
                print(f"{kind}: {theirs['versions']}: {_shown(theirs)}", flush=True)
            with Server(options) as server:
                for clients, per_request in [*((n, 1) for n in options.clients), LARGE_REQUESTS]:
                    run = load(server, kind, clients, options.seconds, per_request)
                    loads.setdefault((kind, clients, per_request), []).append(run)
    print(
        "\n| texts | clients | a request | texts/s | of in process | of the peer | p50 | p99 | "
        "clients' CPU |\n|---|---|---|---|---|---|---|---|---|"
    )
    for (kind, clients, per_request), runs in loads.items():
        rate, p50, p99, share = max(runs)
        beside = f"{rate / peers[kind]:.2f}" if kind in peers else "-"
        print(
            f"| {kind} | {clients} | {per_request} | {rate:.0f} | {rate / ours[kind]:.2f} | "
            f"{beside} | {p50:.0f} ms | {p99:.0f} ms | {share:.0%} |"
        )


def _shown(found: dict[str, Any]) -> str:
    rates = found["rates"].items()
    return ", ".join(f"{rate:.0f}/s in batches of {size}" for size, rate in rates)


def memory(options: argparse.Namespace) -> None:
    """Resident memory, minute by minute, under one load."""
    clients = options.clients[-1]
    with Server(options) as server:
        for minute in range(options.minutes):
            rate, *_ = load(server, "mixed", clients, 60 - WARM_UP, 1)
            size = server.resident_mb()
            print(f"minute {minute + 1}: {size:.0f} MB, {rate:.0f} texts/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(ROOT / "downloads" / "all-MiniLM-L6-v2"))
    parser.add_argument("--peer_python", default=sys.executable, help="has sentence-transformers")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--kinds", nargs="+", default=["short", "mixed"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of one load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="in a contender's process")
    parser.add_argument("--num_worker", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--minutes", type=int, help="measure memory for so long instead")
    parser.add_argument("--in_process", help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        in_process(options)
    elif options.peer:
        peer(options)
    else:
        print(common.machine(), common.versions("tensorflow", "pyzmq"), sep="\n", flush=True)
        memory(options) if options.minutes else rounds(options)


if __name__ == "__main__":
    main()
