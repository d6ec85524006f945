"""Does a SavedModel on disk answer as Python does? Asked before an export counts."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from bert_tf import filesystem
from bert_tf.export import ExportError, requests
from bert_tf.export.servable import Arrays, Case, Servable


def check(
    servable: Servable, folder: str, cases: Iterable[Case], warmup: Iterable[Case] | None
) -> Any:
    """Reads the SavedModel in `folder` back and calls it.

    Args:
      cases: what to call it with; every signature must be among them.
      warmup: what the warm-up file holds, each signature once; None if there is none.

    Returns: the loaded model.
    Raises: ExportError naming the first difference.
    """
    with filesystem.plain_name(folder) as path:
        loaded = tf.saved_model.load(path)
    called = set()
    for case in cases:
        servable.check(case, call(loaded, case.function, case.inputs))
        called.add(case.function)
    _all_signatures(loaded, called, "was called")
    if warmup is not None:
        wanted = {case.function: case for case in warmup}
        replayed = set()
        for name, inputs in requests.read_warmup(folder):
            servable.check(wanted[name], call(loaded, name, inputs))
            replayed.add(name)
        _all_signatures(loaded, replayed, "is in the warm-up file")
    return loaded


def call(loaded: Any, function: str, inputs: Arrays) -> Arrays:
    """What a signature, or another function, of a loaded SavedModel answers."""
    run = (
        loaded.signatures[function] if function in loaded.signatures else getattr(loaded, function)
    )
    answers = run(**{name: tf.constant(values) for name, values in inputs.items()})
    return {name: value.numpy() for name, value in answers.items()}


def _all_signatures(loaded: Any, seen: set[str], what: str) -> None:
    if unseen := set(loaded.signatures) - seen:
        raise ExportError(f"not every signature {what}: {', '.join(sorted(unseen))}")
