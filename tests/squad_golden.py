"""What the tests of question answering share: recorded files, and questions made up."""

import gzip
import json
from pathlib import Path

from bert_tf.data.squad_files import Passage, Question

GOLDEN = Path(__file__).parent / "golden" / "squad"


def recorded_text(name: str) -> str:
    return gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()).decode()


def recorded_json(name: str):
    return json.loads(recorded_text(name))


def unpacked(name: str, folder: Path) -> str:
    """The path of a recorded file, as a plain one."""
    path = folder / f"{name}.json"
    path.write_text(recorded_text(name), encoding="utf-8")
    return str(path)


def ask(context: str, *answers, is_impossible=None, question="?", qas_id="q") -> Question:
    return Question(qas_id, question, Passage("a", context), answers, is_impossible)
