"""One contender of `encoder.py` in a process of its own: reports its best times as JSON.

Every contender has BERT-base's shape, random weights and the same ids, all of them real tokens. A
training step is: forward with dropout 0.1, cross-entropy of two labels, gradients, clipping by the
global norm 1.0, Adam with weight decay. Each is set up as its own documentation advises for speed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import common
import numpy as np

VOCABULARY, LABELS = 30522, 2
Steps = dict[str, Callable[[], object]]


def batch(rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """ids [rows, length] and labels [rows], int32."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, VOCABULARY, (rows, length), np.int32)
    return ids, random.integers(0, LABELS, rows, np.int32)


def ceiling(precision: str, rows: int, length: int) -> float:
    """The best GFLOP/s of TensorFlow's matrix product in the shapes of BERT-base's layers."""
    import tensorflow as tf

    product = tf.function(tf.matmul)
    best = 0.0
    for inner, outer in ((768, 768), (768, 3072), (3072, 768)):
        a = tf.cast(tf.random.normal([rows * length, inner]), precision)
        b = tf.cast(tf.random.normal([inner, outer]), precision)
        seconds = common.best_seconds(lambda a=a, b=b: product(a, b), repeats=60, warm_up=5)
        best = max(best, 2 * rows * length * inner * outer / seconds / 1e9)
    return best


def bert_tf(precision: str, rows: int, length: int) -> Steps:
    import keras
    import tensorflow as tf

    from bert_tf import heads, modeling, optimization
    from bert_tf.config import BertConfig

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    model = heads.classifier(BertConfig(vocab_size=VOCABULARY, type_vocab_size=2), LABELS)
    optimizer = optimization.create_optimizer(2e-5, 10_000, 1000)
    optimizer.build(model.trainable_variables)
    ids, labels = (tf.constant(x) for x in batch(rows, length))
    inputs = {
        "input_ids": ids,
        "input_mask": tf.ones_like(ids),
        "segment_ids": tf.zeros_like(ids),
    }

    @tf.function
    def forward(inputs):
        return model.bert(inputs)["pooled_output"]

    @tf.function
    def training(inputs, labels):
        seed = tf.stack([0, tf.cast(optimizer.global_step, tf.int32)])
        with modeling.dropout_seed(seed), tf.GradientTape() as tape:
            logits = model(inputs, training=True)["logits"]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return {
        "forward": lambda: forward(inputs).numpy(),
        "training": lambda: training(inputs, labels).numpy(),
    }


def keras_hub(precision: str, rows: int, length: int) -> Steps:
    """`BertBackbone` compiled by `tf.function`; keras.optimizers.AdamW with `global_clipnorm`.

    bfloat16: pure for the forward pass, mixed_bfloat16 in training.
    """
    import keras
    import tensorflow as tf
    from keras_hub.models import BertBackbone

    def backbone(dtype: str) -> BertBackbone:
        sizes = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072}
        return BertBackbone(vocabulary_size=VOCABULARY, dropout=0.1, dtype=dtype, **sizes)

    mixed = precision == "bfloat16"
    encoder, trained = backbone(precision), backbone("mixed_bfloat16" if mixed else precision)
    pooled = keras.layers.Dropout(0.1)(trained.output["pooled_output"])
    logits = keras.layers.Dense(LABELS, dtype="float32")(pooled)
    model = keras.Model(trained.input, logits)
    optimizer = keras.optimizers.AdamW(2e-5, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    ids, labels = (tf.constant(x) for x in batch(rows, length))
    inputs = {
        "token_ids": ids,
        "padding_mask": tf.ones_like(ids),
        "segment_ids": tf.zeros_like(ids),
    }

    @tf.function
    def forward(inputs):
        return encoder(inputs, training=False)["pooled_output"]

    @tf.function
    def training(inputs, labels):
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return {
        "forward": lambda: forward(inputs).numpy(),
        "training": lambda: training(inputs, labels).numpy(),
    }


def hugging_face(precision: str, rows: int, length: int) -> Steps:
    """`BertForSequenceClassification` with sdpa attention; fused AdamW, `clip_grad_norm_`.

    bfloat16: pure for the forward pass (inference_mode), autocast in training.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(0)
    config = BertConfig(num_labels=LABELS, attn_implementation="sdpa")
    dtype = getattr(torch, precision)
    encoder = BertModel(config).to(dtype).eval()
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01, fused=True)
    ids, labels = (torch.from_numpy(x).long() for x in batch(rows, length))
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }

    @torch.inference_mode()
    def forward():
        return encoder(**inputs).pooler_output

    def training():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return {"forward": forward, "training": training}


CONTENDERS: dict[str, tuple[Callable[..., Steps], tuple[str, ...]]] = {
    "bert_tf": (bert_tf, ("tensorflow", "keras")),
    "keras_hub": (keras_hub, ("keras-hub", "keras", "tensorflow")),
    "hugging_face": (hugging_face, ("transformers", "torch")),
}


def limit_threads(contender: str, threads: int) -> None:
    if contender == "hugging_face":
        import torch

        torch.set_num_threads(threads)
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=["ceiling", *CONTENDERS])
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    for name in ("rows", "length", "threads", "repeats"):
        parser.add_argument(name, type=int)
    args = parser.parse_args()
    limit_threads(args.contender, args.threads)
    shape = (args.precision, args.rows, args.length)
    if args.contender == "ceiling":
        common.report({"gflops": ceiling(*shape), "versions": common.versions("tensorflow")})
        return
    make, packages = CONTENDERS[args.contender]
    best = {name: common.best_seconds(run, args.repeats) for name, run in make(*shape).items()}
    common.report(best | {"versions": common.versions(*packages)})


if __name__ == "__main__":
    main()
