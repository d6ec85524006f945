"""A bert-serving-start process, and what tests ask of it."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import zmq

from bert_tf import checkpoints
from bert_tf.config import BertConfig
from bert_tf.modeling import BertModel

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "tiny"


def save(model, folder):
    """In Google's layout."""
    vocab_file = str(TINY / "vocab.txt")
    checkpoints.save(model, f"{folder}/", "google", vocab_file=vocab_file, do_lower_case=True)


def tiny_encoder():
    """Of three layers, whose vectors differ enough to be told apart."""
    config = BertConfig.from_json_file(TINY / "bert_config.json")
    config = dataclasses.replace(config, initializer_range=0.2, num_hidden_layers=3)
    keras.utils.set_random_seed(3)
    return BertModel(config)


class ServerProcess:
    """The real program, on ports that were free."""

    def __init__(self, model, *flags, start_new_session=False):
        command = [sys.executable, "-m", "bert_tf.serving", "-model_dir", str(model)]
        command += ["-port", "0", "-port_out", "0", *flags]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=start_new_session,
        )
        found = self._read(r":(\d+), results at (\d+)(?:, HTTP at (\d+))?")
        self.port, self.port_out = map(int, found[:2])
        self.ports = {"port": self.port, "port_out": self.port_out}
        self.url = f"http://127.0.0.1:{found[2]}"

    def _read(self, pattern):
        """What the pattern's groups are in the first line that it fits."""
        came = ""
        for line in self.process.stdout:
            came += line
            if found := re.search(pattern, line):
                return found.groups()
        raise RuntimeError(f"no {pattern} from the server, which ended by {self.wait()}:\n{came}")

    def children(self):
        """Process ids of what it started (but multiprocessing's own helper), the first first."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = sorted(int(pid) for pid in children.read_text().split())
        return [p for p in found if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]

    def workers(self):
        """Process ids of the workers of a server without HTTP."""
        return self.children()

    def kill_worker(self):
        deadline = time.monotonic() + 60
        while not (pids := self.workers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(pids[0], signal.SIGKILL)
        return pids[0]

    def end(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code


def send(server, *messages):
    """Whatever frames somebody sends, over a connection of its own."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, 2000)
        socket.connect(f"tcp://localhost:{server.port}")
        for frames in messages:
            socket.send_multipart(frames)
