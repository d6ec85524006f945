"""BERT-base, forward and one training step, beside KerasHub and Hugging Face on PyTorch.

    python benchmarks/encoder.py --peer_python=peers/bin/python

Every round runs each contender in a process of its own, one after another, together with the
matrix-product ceiling of the machine; the best of all rounds counts. A share is the arithmetic of
the encoder's matrix products, per second, over that ceiling (at the same precision).
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections import defaultdict

import common

CONTENDERS = str(pathlib.Path(__file__).with_name("encoder_contenders.py"))
PEERS = ("keras_hub", "hugging_face")
REMEDY = (
    "Peers live in an environment of their own: python -m venv peers; "
    "peers/bin/pip install torch==2.13.0 (a CPU build does); "
    "peers/bin/pip install transformers keras-hub tensorflow; "
    "then give --peer_python=peers/bin/python."
)


def forward_flops(rows: int, length: int, layers=12, hidden=768, intermediate=3072) -> float:
    """Of all matrix products of one forward pass; a multiply-add is two. The pooler included."""
    projections = 4 * hidden**2  # query, key, value, output
    attention = 2 * length * hidden  # scores and their weighted sum
    feed_forward = 2 * hidden * intermediate
    a_token = 2 * layers * (projections + attention + feed_forward)
    return rows * (length * a_token + 2 * hidden**2)


def measure(args: argparse.Namespace) -> dict[str, dict[str, list]]:
    """{"<contender> <precision>": {"forward": [seconds of each round], ...}}"""
    results: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    sizes = [str(n) for n in (args.rows, args.length, args.threads, args.repeats)]
    contenders = ["ceiling", "bert_tf", *PEERS]
    # Other programs slow PyTorch most: OpenMP's threads wait for each other.
    print(f"load average before the first round: {os.getloadavg()[0]:.1f}", flush=True)
    for round_ in range(args.rounds):
        # Alternately forwards and backwards, so that no contender always follows the same one.
        for name in contenders[:: -1 if round_ % 2 else 1]:
            python = args.peer_python if name in PEERS else sys.executable
            for precision in args.precisions:
                report = common.run_contender(python, CONTENDERS, [name, precision, *sizes])
                if report is None:
                    print(REMEDY)
                    contenders = [c for c in contenders if c != name]
                    break
                print(f"round {round_ + 1}: {name} {precision} {report}", flush=True)
                for key, value in report.items():
                    results[f"{name} {precision}"][key].append(value)
    return results


def print_table(args: argparse.Namespace, results: dict[str, dict[str, list]]) -> None:
    print(f"\n{common.machine()}; {args.threads} threads, best of {args.rounds} rounds")
    for key, values in results.items():
        if key.endswith(args.precisions[0]):
            print(f"{key.split()[0]}: {values['versions'][0]}")
    flops = forward_flops(args.rows, args.length)
    print("\n| | precision | contender | ms | examples/s | time / bert_tf's | of the ceiling |")
    print("|---|---|---|---|---|---|---|")
    for mode, factor in (("forward", 1), ("training", 3)):
        for precision in args.precisions:
            ceiling = max(results[f"ceiling {precision}"]["gflops"])
            ours = min(results[f"bert_tf {precision}"][mode])
            for name in ("bert_tf", *PEERS):
                times = results.get(f"{name} {precision}", {}).get(mode)
                if times:
                    seconds = min(times)
                    share = factor * flops / seconds / 1e9 / ceiling
                    print(
                        f"| {mode} | {precision} | {name} | {1000 * seconds:.0f} "
                        f"| {args.rows / seconds:.1f} | {seconds / ours:.2f} | {share:.0%} |"
                    )
    for precision in args.precisions:
        rates = results[f"ceiling {precision}"]["gflops"]
        print(f"\nceiling {precision}: {max(rates):.0f} GFLOP/s (rounds: ", end="")
        print(", ".join(f"{rate:.0f}" for rate in rates) + ")", end="")
    print(f"\n{flops / 1e9:.0f} GFLOP forward, three times that in training")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer_python", default=sys.executable, help=REMEDY)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs in one process")
    parser.add_argument("--rows", type=int, default=8, help="sequences in a batch")
    parser.add_argument("--length", type=int, default=128, help="tokens in a sequence")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    print_table(args, measure(args))


if __name__ == "__main__":
    main()
