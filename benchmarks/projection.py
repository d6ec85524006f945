"""Pre-training BERT on 8 GPUs, 64 GPUs and a TPU v3-8, on paper: nothing of this was run.

    python benchmarks/projection.py

A step is counted, not timed: operations of all matrix products, bytes of the gradients that are
summed over all devices, and what lies in a device's memory. The assumptions are the table DEVICES
and the constants below; change them and the table follows.
"""

from __future__ import annotations

import dataclasses

from bert_tf import memory
from bert_tf.config import BertConfig

# The published peak for bfloat16 matrix products, and the share of it that training reaches. Here
# 76% is measured on a processor (benchmarks/encoder.py); accelerators starve more easily.
SHARE_OF_PEAK = 0.40
GRADIENT_BYTES = 4  # float32, as train_step.py sums them
# A ring sends 2 (n - 1) / n times the gradients through each device's slowest link; nothing of it
# is hidden behind computing, because clipping needs the norm of all before the first update.
OVERLAP = 0.0


@dataclasses.dataclass(frozen=True)
class Devices:
    """Attributes: how many; TFLOP/s and GB of memory of one; GB/s of its slowest link."""

    count: int
    teraflops: float
    memory: float
    link: float


DEVICES = {
    "8 x A100 (NVLink)": Devices(8, 312, 40, 230),
    "64 x A100 (8 machines, 8 x 200 Gbit/s each)": Devices(64, 312, 40, 20),
    "TPU v3-8 (8 cores)": Devices(8, 52.5, 16, 60),
}
MODELS = {
    "base": BertConfig(30522),
    "large": BertConfig(
        30522,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
    ),
}


def parameters(config: BertConfig) -> int:
    """Of encoder, pooler and the pre-training heads."""
    size, inner = config.hidden_size, config.intermediate_size
    tables = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    layer = 4 * (size * size + size) + 2 * size * inner + inner + size + 4 * size
    heads = 2 * (size * size + size) + 2 * size + config.vocab_size + 2 * size + 2
    return tables * size + 2 * size + config.num_hidden_layers * layer + heads


def operations(config: BertConfig, length: int, masked: int) -> float:
    """Of one sequence, forward and backward: two for each multiply-add, three times forward."""
    size, inner = config.hidden_size, config.intermediate_size
    dense = length * (4 * size * size + 2 * size * inner)
    attention = 2 * length * length * size
    words = masked * (size * size + size * config.vocab_size)
    return 3 * 2 * (config.num_hidden_layers * (dense + attention) + words)


def main() -> None:
    print(f"{SHARE_OF_PEAK:.0%} of the peak, {GRADIENT_BYTES} bytes a gradient, no overlap\n")
    print(
        f"{'devices':<44} {'model':<6} {'length':>6} {'rows':>5} {'GB':>5} "
        f"{'compute, ms':>11} {'sum, ms':>8} {'sequences/s':>11} {'efficiency':>10}"
    )
    for name, devices in DEVICES.items():
        for model, config in MODELS.items():
            for length, masked, rows in ((128, 20, 64), (512, 77, 16)):
                count = parameters(config)
                plan = memory.plan(config, count, rows, length, 1, 2, recompute=False)
                held = (plan.weights + plan.gradients + plan.optimizer + plan.activations) / 1e9
                work = rows * operations(config, length, masked)
                compute = work / (SHARE_OF_PEAK * devices.teraflops * 1e12)
                ring = 2 * (devices.count - 1) / devices.count
                summing = (1 - OVERLAP) * ring * count * GRADIENT_BYTES / (devices.link * 1e9)
                rate = devices.count * rows / (compute + summing)
                print(
                    f"{name:<44} {model:<6} {length:>6} {rows:>5} {held:5.1f} "
                    f"{1e3 * compute:11.1f} {1e3 * summing:8.1f} {rate:11.0f} "
                    f"{compute / (compute + summing):10.0%}"
                    + ("  does not fit: --auto_batch" if held > devices.memory else "")
                )


if __name__ == "__main__":
    main()
