"""What a task's module tells the exporter: its graphs, and what Python answers in their place."""

import abc
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert_tf.config import BertConfig
from bert_tf.export import ExportError
from bert_tf.tokenization import Tokenizer

TOLERANCE = 1e-5  # absolute up to 1, then relative to the largest number of the row
# In bfloat16 a sum depends on how many rows are added up, and keeps two to three digits.
TOLERANCE_OF = {"float32": TOLERANCE, "bfloat16": 0.05}

Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
    """One call of an exported model, and what Python answers to it. B rows.

    From cases follow the verification, the warm-up requests and the card's example requests.
    """

    function: str  # the signature, or another function of the module that is to be checked
    inputs: Arrays  # [B, ...]; strings as bytes in an object array
    expected: Arrays  # [B, ...]; outputs that may be anything are left out
    rows: list[str]  # what the rows were made of, for messages


class Model(NamedTuple):
    """What becomes one SavedModel."""

    module: tf.Module
    signatures: dict[str, Any]  # name -> tf.function with an input_signature


class Servable(abc.ABC):
    """A fine-tuned model with its tokenizer, ready to be exported.

    Signatures named `classify` and `regress` are served by TF Serving's methods of these names,
    all others by Predict.

    Attributes:
      task_type: as in task.json.
      use: what it does for its user, a sentence for the card.
      labels: in the order of the model's outputs; empty where it has none.
      reads_whole_texts: whether a text of any length is read to its end, in windows.
      example: a sample of ours, for warm-up requests and the card; no one's data.
      precision: what it computes in.
    """

    task_type: str
    use: str
    labels: list[str]
    reads_whole_texts = False
    precision = "float32"
    example: Any

    def __init__(self, config: BertConfig, tokenizer: Tokenizer, max_seq_length: int):
        tokenizer.check_model(config.vocab_size)
        self.config, self.tokenizer, self.max_seq_length = config, tokenizer, max_seq_length

    @abc.abstractmethod
    def features_model(self) -> Model:
        """Google's features in: for `features/`, of stock TensorFlow's ops alone."""

    @abc.abstractmethod
    def text_model(self, features: Model) -> Model:
        """Raw text in: for `text/`. Includes the signatures of `features`, from `features_model`.

        Its own `serving_default` takes text.
        """

    @abc.abstractmethod
    def tricky_samples(self) -> Iterable[Any]:
        """Samples on which graph and Python are likely to differ, if anywhere."""

    @abc.abstractmethod
    def answers(self, samples: Iterable[Any]) -> list[Any]:
        """What Python makes of samples, in batches; the form is the task's own."""

    @abc.abstractmethod
    def features_cases(self, batch: Any) -> Iterator[Case]:
        """Calls of the features model that one of the `answers` answers; each signature's once."""

    @abc.abstractmethod
    def text_cases(self, batch: Any) -> Iterator[Case]:
        """The same for the text model."""

    def in_bfloat16(self) -> "Servable":
        """The same, computing in bfloat16. Raises ValueError where a task has no such export."""
        raise ValueError(
            f"a model for {self.task_type} is exported in float32 or int8, not bfloat16"
        )

    @property
    def tolerance(self) -> float:
        """How far answers may be from Python's, as `TOLERANCE`."""
        return TOLERANCE_OF[self.precision]

    def check(self, case: Case, answers: Arrays) -> None:
        """Raises ExportError unless `answers` are what the case expects; a task may ask more."""
        for name, ours in case.expected.items():
            _check_same(case, name, ours, answers[name], self.tolerance)


def _check_same(
    case: Case, name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float
) -> None:
    """Row by row first, so that the message shows a row; then the shapes, which are padding's."""
    rows = case.rows if len(theirs) == len(ours) else []
    for i, shown in enumerate(rows):
        a, b = np.atleast_1d(ours[i]), np.atleast_1d(theirs[i])
        if ours.dtype.kind == "f":
            near = tolerance * max(1.0, abs(a).max(initial=0))
            same = a.shape == b.shape and np.all(abs(a - b) <= near)
        elif ours.dtype.kind == "i":
            a, b = np.trim_zeros(a, "b"), np.trim_zeros(b, "b")
            same = np.array_equal(a, b)
        else:
            same = np.array_equal(a, b)
        if not same:
            raise ExportError(
                f"{name} of {shown} from {case.function}: "
                f"Python {a.tolist()}, SavedModel {b.tolist()}"
            )
    if ours.shape != theirs.shape:
        raise ExportError(
            f"shape of {name} from {case.function}: Python {ours.shape}, SavedModel {theirs.shape}"
        )
