"""How much memory a step of training takes, and in how many parts it fits. Without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bert_tf.config import BertConfig

_FLOAT32 = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Plan:
    """What lies in a device's memory during a step, in bytes, estimated.

    Attributes:
      weights, gradients: float32.
      optimizer: two moments of each weight.
      activations: what the encoder keeps of its rows until their gradient is known.
      rows: in one part of a step, on one device.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    rows: int
    parts: int

    def __str__(self) -> str:
        whole = self.weights + self.gradients + self.optimizer + self.activations
        parts = "" if self.parts == 1 else f", {self.parts} parts in a step"
        return (
            f"Memory of a step, about: weights {_size(self.weights)}, gradients "
            f"{_size(self.gradients)}, optimizer {_size(self.optimizer)}, activations "
            f"{_size(self.activations)} ({self.rows} rows at once{parts}); together {_size(whole)}"
        )


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def plan(
    config: BertConfig,
    parameters: int,
    rows: int,
    length: int,
    parts: int,
    bytes_a_number: int,
    recompute: bool,
) -> Plan:
    """The plan for `rows` rows of `length` pieces on one device, in so many parts.

    Args:
      parameters: numbers that are trained.
      bytes_a_number: 4, or 2 where activations have half the width.
    """
    at_once = -(-rows // parts)
    layer = activations_of_layer(config, length, bytes_a_number)
    layers = config.num_hidden_layers * layer
    if recompute:  # the input of each layer, and one layer whole
        layers = config.num_hidden_layers * config.hidden_size * bytes_a_number + layer
    of_weights = parameters * _FLOAT32
    return Plan(
        *(of_weights, of_weights, 2 * of_weights), at_once * length * layers, at_once, parts
    )


def activations_of_layer(config: BertConfig, length: int, bytes_a_number: int) -> int:
    """Bytes that one encoder layer keeps for each piece of a row, as `encoder.py` computes it.

    E the hidden size, I the intermediate size, N heads, T positions attended to; with 1 byte a
    number for the masks of dropout, and LayerNorm and softmax in float32.
    """
    width, inner = config.hidden_size, config.intermediate_size
    scores = config.num_attention_heads * length  # N * T
    attention = width * 5 + scores * 2  # its input, q, k, v, context; probabilities before, after
    feed_forward = width + inner * 2  # its input; GELU and its slope
    in_float32 = scores + width * 2  # softmax; what both LayerNorms have normalized
    masks = scores + width * 2
    return (attention + feed_forward) * bytes_a_number + in_float32 * _FLOAT32 + masks


def fitting_parts(fits: Callable[[int], bool], parts: int, rows: int) -> int:
    """The least number of parts, doubled from `parts` on, of which one fits.

    Args:
      fits: whether a step of so many parts does.
      rows: of a step, on one device.

    Raises:
      MemoryError: a single row does not.
    """
    while not fits(parts):
        if parts >= rows:
            raise MemoryError(
                "a single row of this length does not fit into memory; use --recompute, a smaller "
                "--max_seq_length, --precision=mixed_bfloat16 or a smaller model"
            )
        parts *= 2
        print(f"That does not fit; --gradient_accumulation_steps={parts} is tried.", flush=True)
    return parts
