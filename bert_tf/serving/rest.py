"""TF Serving's REST form of requests and answers, with the names that exported models have.

`{"instances": [...]}`, texts or objects of `text_a` and `text_b`, gives `{"predictions": [...]}`:
for a classifier objects of `label_ids`, `labels` and `probabilities`, for a regression numbers,
else vectors. `{"inputs": {"text_a": [...], "text_b": [...]}}` gives `{"outputs": ...}`, the same
by columns.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from bert_tf.checkpoints.labels import default_labels
from bert_tf.metrics import MULTILABEL_THRESHOLD
from bert_tf.serving.assets import Plan

_SIGNATURES = ("", "serving_default", "single_sentence")
_FORMS = ("instances", "inputs")


def texts(body: Any) -> list[dict[str, str]]:
    """The texts of a request. Raises ValueError saying what is wrong with it."""
    if not isinstance(body, dict) or sum(form in body for form in _FORMS) != 1:
        raise ValueError('expected {"instances": [...]} or {"inputs": {"text_a": [...], ...}}')
    if extra := body.keys() - {*_FORMS, "signature_name"}:
        raise ValueError(f"{', '.join(sorted(extra))}: not known; expected instances or inputs")
    if (name := body.get("signature_name", "")) not in _SIGNATURES:
        raise ValueError(f"signature_name={name!r:.40}: expected serving_default")
    rows = _rows(body["inputs"]) if "inputs" in body else body["instances"]
    if not isinstance(rows, list) or not rows:
        found = "empty" if rows == [] else type(rows).__name__
        raise ValueError(f"instances: {found}; expected a list of one text or more")
    return [_text(number, row) for number, row in enumerate(rows)]


def _rows(inputs: Any) -> list[Any]:
    """Columns -> rows; a model's only input has no name."""
    columns = inputs if isinstance(inputs, dict) else {"text_a": inputs}
    if not all(isinstance(column, list) for column in columns.values()):
        raise ValueError("inputs: expected lists of texts")
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("inputs: the lists are not of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _text(number: int, instance: Any) -> dict[str, str]:
    named = isinstance(instance, dict) and "b64" not in instance
    given = instance if named else {"text_a": instance}
    try:
        found = {name: _string(value) for name, value in given.items()}
    except ValueError as error:
        raise ValueError(f"instance {number}: b64 holds no text: {error}") from None
    if not {"text_a"} <= found.keys() <= {"text_a", "text_b"} or None in found.values():
        raise ValueError(
            f"instance {number} is {instance!r:.40}; expected a string or an object of text_a and "
            "text_b"
        )
    return {name: str(value) for name, value in found.items()}


def _string(value: Any) -> str | None:
    """A string, be it as `{"b64": ...}`; None of anything else."""
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        return base64.b64decode(value["b64"], validate=True).decode()
    return value if isinstance(value, str) else None


def answer(body: dict[str, Any], vectors: np.ndarray, plan: Plan) -> dict[str, Any]:
    """The answer to a request, in its form.

    Args:
      vectors: [N, D] or [N, T, D], or a head's answers [N, L].
    """
    columns = _columns(vectors.astype(np.float32), plan)
    if "inputs" in body:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"predictions": rows if len(columns) > 1 else list(*columns.values())}


def _columns(vectors: np.ndarray, plan: Plan) -> dict[str, Any]:
    """The outputs by name, each of N."""
    if plan.task_type == "regression":
        return {"scores": vectors[:, 0].tolist()}
    if plan.task_type is None:
        return {"vectors": vectors}
    names = plan.labels or default_labels(vectors.shape[1])
    if plan.task_type == "multilabel":
        ids = (vectors >= MULTILABEL_THRESHOLD).astype(int)
        labels: list[Any] = np.where(ids, np.array(names, object), "").tolist()
    else:
        ids = vectors.argmax(axis=-1)
        labels = [names[best] for best in ids]
    return {"label_ids": ids.tolist(), "labels": labels, "probabilities": vectors}
