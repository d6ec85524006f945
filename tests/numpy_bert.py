"""BERT's forward pass in plain numpy: evidence that shares no code with bert_tf."""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS = {
    "gelu_erf": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def sequence_output(weights, config, input_ids, input_mask, segment_ids):
    """The last layer's output [B, F, E] in float64.

    Args:
      weights: arrays under the names of Google's released checkpoints.
      config: anything with the fields of Google's BertConfig and `layer_norm_eps`.
      input_ids, input_mask, segment_ids: int arrays [B, F].
    """

    def get(name):
        return weights[f"bert/{name}"].astype(np.float64)

    def dense(x, name):
        return x @ get(f"{name}/kernel") + get(f"{name}/bias")

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.layer_norm_eps)
        return x * get(f"{name}/LayerNorm/gamma") + get(f"{name}/LayerNorm/beta")

    def heads(x):  # [B, F, E] -> [B, N, F, H]
        batch, length, size = x.shape
        split = (batch, length, config.num_attention_heads, size // config.num_attention_heads)
        return x.reshape(split).transpose(0, 2, 1, 3)

    def softmax(x):
        x = np.exp(x - x.max(-1, keepdims=True))
        return x / x.sum(-1, keepdims=True)

    length = input_ids.shape[1]
    x = get("embeddings/word_embeddings")[input_ids]
    x = x + get("embeddings/token_type_embeddings")[segment_ids]
    if "bert/embeddings/task_type_embeddings" in weights:
        x = x + get("embeddings/task_type_embeddings")[0]
    x = norm(x + get("embeddings/position_embeddings")[:length], "embeddings")
    mask = (1.0 - input_mask[:, None, None, :]) * -10000.0
    for i in range(config.num_hidden_layers):
        layer = f"encoder/layer_{i}"
        q, k, v = (
            heads(dense(x, f"{layer}/attention/self/{n}")) for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
        context = (softmax(scores + mask) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(x + dense(context, f"{layer}/attention/output/dense"), f"{layer}/attention/output")
        wide = ACTIVATIONS[config.hidden_act](dense(x, f"{layer}/intermediate/dense"))
        x = norm(x + dense(wide, f"{layer}/output/dense"), f"{layer}/output")
    return x
