"""The console scripts bert-serving-start and bert-serving-terminate."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import zmq
from absl import logging

from bert_tf import cli
from bert_tf.serving import assets, flags
from bert_tf.serving.client import BertClient
from bert_tf.serving.connection import ServingError
from bert_tf.serving.server import Server


def start(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM, SIGINT or an allowed TERMINATION; a second signal ends it at once."""
    arguments = flags.parser().parse_args(argv)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO if arguments.verbose else logging.WARNING)
    try:
        with cli.command():
            flags.check(arguments)
            plan, tokenizer = assets.read(arguments)
            server = Server(plan, tokenizer)
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except zmq.ZMQError as error:
        ports = f"{arguments.port} and {arguments.port_out}"
        print(f"Error: ports {ports} of {arguments.bind}: {error.strerror}", file=sys.stderr)
        return 1

    def end(number: int, frame: Any) -> None:
        if server.stopping:
            server.kill()
            os._exit(128 + number)
        # Not by print, whose buffer may be in use where the signal came.
        os.write(1, b"finishing what was accepted; once more to end at once\n")
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    http = f", HTTP at {server.http.port}" if server.http is not None else ""
    print(
        f"{plan.weights}: requests at {arguments.bind}:{server.ports[0]}, results at "
        f"{server.ports[1]}{http}; {arguments.num_worker} worker(s) start",
        flush=True,
    )
    for notice in plan.notices:
        print(notice, file=sys.stderr if notice.startswith("WARNING") else sys.stdout, flush=True)
    server.run()
    if server.failed:
        print(f"Error: {server.dispatcher.failure}", file=sys.stderr)
    return int(server.failed)


@cli.command()
def terminate(argv: Sequence[str] | None = None) -> int:
    """Asks a server to end, and says what it answers."""
    parser = flags.Parser(
        prog="bert-serving-terminate", description="Ends a server that allows it."
    )
    parser.add_argument("-ip", default="localhost", help="where it runs")
    parser.add_argument("-port", "-port_in", "-port_data", type=flags.port, default=5555)
    parser.add_argument("-port_out", "-port_result", type=flags.port, default=5556)
    parser.add_argument(
        "-timeout", type=flags.number(int, -1), default=5000, help="milliseconds; -1 for ever"
    )
    arguments = parser.parse_args(argv)
    try:
        with BertClient(
            arguments.ip,
            arguments.port,
            arguments.port_out,
            ignore_all_checks=True,
            timeout=arguments.timeout,
        ) as client:
            client.terminate()
    except (ServingError, TimeoutError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("the server finishes what it accepted, and ends")
    return 0
