"""bert-serving-benchmark: a server for every setting, under the load of its clients.

As in bert-as-service one setting is varied at a time while the others keep a usual value, and the
tables are written to `benchmark-N[-fp16].result`, N workers. What is counted are the texts a
second of all clients together.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from bert_tf import cli, filesystem
from bert_tf.serving import flags
from bert_tf.serving.client import BertClient
from bert_tf.serving.connection import ServingError

# The settings, with their values and the one in the others' experiments.
_SETTINGS = {
    "client_batch_size": ([1, 16, 256, 4096], 2048),
    "max_batch_size": ([8, 32, 128, 512], 256),
    "max_seq_len": ([32, 64, 128, 256], 40),
    "num_client": ([1, 4, 16, 64], 1),
    "pooling_layer": ([-1, -2, -3, -4], -2),
}
_OF_SERVER = ("max_batch_size", "max_seq_len", "pooling_layer")
_TIMEOUT_MS = 600_000  # for an answer of a server that has much to do


def parser() -> argparse.ArgumentParser:
    """Of the flags that are not the server's."""
    made = flags.Parser(
        prog="bert-serving-benchmark",
        description="Measures servers of several settings. Takes bert-serving-start's flags too; "
        "those that are varied here, and ports, are set by it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for name, (values, usual) in _SETTINGS.items():
        least = None if name == "pooling_layer" else 1
        made.add_argument(
            f"-test_{name}",
            type=flags.number(int, least),
            nargs="*",
            default=values,
            help=f"elsewhere it is {usual}",
        )
    made.add_argument(
        "-wait_till_ready",
        type=flags.number(float, 0),
        default=300,
        help="seconds for a server to start, at most",
    )
    made.add_argument(
        "-client_vocab_file",
        type=flags.path,
        default="README.md",
        help="the words of texts, which are random",
    )
    made.add_argument(
        "-num_repeat", type=flags.number(int, 1), default=10, help="requests of every client"
    )
    return made


@cli.command()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs all experiments and writes the file."""
    options, rest = parser().parse_known_args(argv)
    server = flags.parser().parse_args(rest)
    try:
        words = sorted(set(Path(options.client_vocab_file).read_text("utf-8").split()))
    except (OSError, ValueError) as error:
        print(f"Error: -client_vocab_file={options.client_vocab_file}: {error}", file=sys.stderr)
        return 1
    if not words:
        print(f"Error: -client_vocab_file={options.client_vocab_file} is empty", file=sys.stderr)
        return 1
    tables = []
    for name in _SETTINGS:
        table = [f"| `{name}` | texts/s |", "|---|---|"]
        for value in getattr(options, f"test_{name}"):
            setting = {other: usual for other, (_, usual) in _SETTINGS.items()} | {name: value}
            result = _experiment(setting, options, rest, server.num_worker, words)
            print(f"{name}={value}: {result}", flush=True)
            table.append(f"| {value} | {result} |")
        if len(table) > 2:
            tables.append("\n".join(table) + "\n")
    path = f"benchmark-{server.num_worker}{'-fp16' if server.fp16 else ''}.result"
    filesystem.write_bytes(path, "\n".join(tables).encode())
    print(f"Written: {path}")
    return 0


def _experiment(
    setting: dict[str, int],
    options: argparse.Namespace,
    given: list[str],
    workers: int,
    words: list[str],
) -> str:
    """Texts a second, or why there are none."""
    command = [sys.executable, "-m", "bert_tf.serving", *given]
    command += [f"-{name}={setting[name]}" for name in _OF_SERVER]
    try:
        with _running(command, workers, options.wait_till_ready) as ports:
            return f"{_load(ports, setting, options.num_repeat, words):.0f}"
    except (ServingError, RuntimeError, TimeoutError) as error:
        return str(error).removeprefix("Error: ")


@contextlib.contextmanager
def _running(command: list[str], workers: int, patience: float) -> Iterator[tuple[int, int]]:
    """A server, when all its workers are ready.

    Raises RuntimeError with what it said if they are not in time.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*command, "-port=0", "-port_out=0"], stdout=said, stderr=subprocess.STDOUT, text=True
        )
        try:
            end = time.monotonic() + patience
            while f"ready: {workers} of" not in (text := _contents(said)):
                if process.poll() is not None or time.monotonic() > end:
                    why = text.strip().rpartition("\n")[2]
                    raise RuntimeError(why if process.returncode else f"not ready: {why}")
                time.sleep(0.1)
            found = re.search(r":(\d+), results at (\d+)", text)
            assert found is not None
            yield int(found[1]), int(found[2])
        finally:
            process.terminate()
            process.wait()


def _contents(file: IO[str]) -> str:
    """What another process wrote to it so far."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def _load(ports: tuple[int, int], setting: dict[str, int], repeats: int, words: list[str]) -> float:
    """Texts a second of clients that each send `repeats` requests, one after the other."""
    count, size = setting["num_client"], setting["client_batch_size"]
    choose = random.Random(1)
    drawn = [" ".join(choose.choices(words, k=setting["max_seq_len"])) for _ in range(size)]
    with contextlib.ExitStack() as clients:
        made = [
            clients.enter_context(
                BertClient("localhost", *ports, check_length=False, timeout=_TIMEOUT_MS)
            )
            for _ in range(count)
        ]
        for client in made:
            client.encode(drawn[:8])

        def ask(client: BertClient) -> None:
            for _ in range(repeats):
                client.encode(drawn)

        start = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(ask, made))
        return count * repeats * size / (time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
