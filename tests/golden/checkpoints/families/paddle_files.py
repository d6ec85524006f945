"""Writes ernie_1 and ernie_3 with PaddlePaddle 3 (`pip install paddlepaddle`).

The encoder is Paddle's own `nn.TransformerEncoder`, under the names that PaddleNLP's ErnieModel
gives it; ernie_1 bears the names that Paddle 1 wrote. expected.npz holds what Paddle computes.
"""

import json
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

HERE = Path(__file__).parent
WORDS = [*("[PAD]", "[CLS]", "[SEP]", "[MASK]"), *",的、一人有是在中为和", "[UNK]"]
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_dropout_prob": 0.1,
    "hidden_size": 4,
    "initializer_range": 0.02,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": len(WORDS),
}
OLD = {
    "word_embeddings.weight": "word_embedding",
    "position_embeddings.weight": "pos_embedding",
    "token_type_embeddings.weight": "sent_embedding",
    "embeddings.layer_norm.weight": "pre_encoder_layer_norm_scale",
    "embeddings.layer_norm.bias": "pre_encoder_layer_norm_bias",
    "pooler.dense.weight": "pooled_fc.w_0",
    "pooler.dense.bias": "pooled_fc.b_0",
}
OLD_LAYER = {
    "self_attn.q_proj": "multi_head_att_query_fc",
    "self_attn.k_proj": "multi_head_att_key_fc",
    "self_attn.v_proj": "multi_head_att_value_fc",
    "self_attn.out_proj": "multi_head_att_output_fc",
    "linear1": "ffn_fc_0",
    "linear2": "ffn_fc_1",
    "norm1": "post_att_layer_norm",
    "norm2": "post_ffn_layer_norm",
}


class Embeddings(nn.Layer):
    def __init__(self, positions, types, tasks):
        super().__init__()
        self.word_embeddings = nn.Embedding(len(WORDS), 4)
        self.position_embeddings = nn.Embedding(positions, 4)
        self.token_type_embeddings = nn.Embedding(types, 4)
        self.task_type_embeddings = nn.Embedding(tasks, 4) if tasks else None
        self.layer_norm = nn.LayerNorm(4)

    def forward(self, ids, segments):
        x = self.word_embeddings(ids) + self.token_type_embeddings(segments)
        x = x + self.position_embeddings(paddle.arange(ids.shape[1])[None])
        if self.task_type_embeddings is not None:
            x = x + self.task_type_embeddings(paddle.zeros_like(ids))
        return self.layer_norm(x)


class Pooler(nn.Layer):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 4)


class Ernie(nn.Layer):
    def __init__(self, activation, wide, **sizes):
        super().__init__()
        self.embeddings = Embeddings(**sizes)
        layer = nn.TransformerEncoderLayer(4, 2, wide, dropout=0.0, activation=activation)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.pooler = Pooler()

    def forward(self, ids, segments):
        mask = (ids == 0).astype("float32")[:, None, None] * -1e4
        x = self.encoder(self.embeddings(ids, segments), mask)
        return x, paddle.tanh(self.pooler.dense(x[:, 0]))


def old_name(name):
    for new, old in OLD.items():
        if name.endswith(new):
            return old
    _, _, number, rest = name.split(".", 3)
    part, _, last = rest.rpartition(".")
    ends = ("_scale", "_bias") if "norm" in part else (".w_0", ".b_0")
    return f"encoder_layer_{number}_{OLD_LAYER[part]}{ends[last == 'bias']}"


def randomize(model):
    for tensor in model.parameters():
        tensor.set_value(paddle.randn(tensor.shape) * 0.5 + 0.1)


def write(folder, model, state, name, config):
    folder.mkdir(exist_ok=True)
    paddle.save(state, str(folder / name))
    ids = np.array([[1, 5, 8, 9, 2], [1, 11, 2, 0, 0]])
    segments = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])
    model.eval()
    sequence, pooled = model(paddle.to_tensor(ids), paddle.to_tensor(segments))
    outputs = {"sequence_output": sequence.numpy(), "pooled_output": pooled.numpy()}
    np.savez(folder / "expected.npz", input_ids=ids, segment_ids=segments, **outputs)
    for file, values in config.items():
        (folder / file).write_text(json.dumps(values, indent=2) + "\n")


paddle.seed(1)
ernie_1 = Ernie("relu", 16, positions=9, types=2, tasks=0)
randomize(ernie_1)
old = {old_name(name): tensor.numpy() for name, tensor in ernie_1.state_dict().items()}
config = {"hidden_act": "relu", "max_position_embeddings": 9, "type_vocab_size": 2}
write(HERE / "ernie_1", ernie_1, old, "ernie.pdparams", {"ernie_config.json": CONFIG | config})
lines = "".join(f"{word}\t{number}\n" for number, word in enumerate(WORDS))
(HERE / "ernie_1" / "vocab.txt").write_text(lines)

ernie_3 = Ernie("gelu", 12, positions=12, types=4, tasks=3)
randomize(ernie_3)
state = {f"ernie.{name}": tensor for name, tensor in ernie_3.state_dict().items()}
config = {
    "hidden_act": "gelu",
    "intermediate_size": 12,
    "max_position_embeddings": 12,
    "task_type_vocab_size": 3,
    "type_vocab_size": 4,
    "use_task_id": True,
    "init_class": "ErnieModel",
}
nested = {"init_args": [CONFIG | config], "init_class": "ErnieForSequenceClassification"}
write(HERE / "ernie_3", ernie_3, state, "model_state.pdparams", {"model_config.json": nested})
(HERE / "ernie_3" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
