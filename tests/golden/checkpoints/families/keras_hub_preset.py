"""Writes keras_hub with KerasHub 0.32, from the numbers of ../keras_bert_test."""

import json
from pathlib import Path

import tensorflow as tf
from keras_hub.models import BertBackbone, BertTokenizer

HERE = Path(__file__).parent
SOURCE = HERE.parent / "keras_bert_test"
reader = tf.train.load_checkpoint(str(SOURCE / "bert_model.ckpt"))
config = json.loads((SOURCE / "bert_config.json").read_text())
model = BertBackbone(
    vocabulary_size=config["vocab_size"],
    num_layers=config["num_hidden_layers"],
    num_heads=config["num_attention_heads"],
    hidden_dim=config["hidden_size"],
    intermediate_dim=config["intermediate_size"],
    dropout=config["hidden_dropout_prob"],
    max_sequence_length=config["max_position_embeddings"],
    num_segments=config["type_vocab_size"],
)


def put(layer, name):
    for variable in layer.weights:
        last = {"embeddings": ""}.get(variable.name, f"/{variable.name}")
        variable.assign(reader.get_tensor(f"bert/{name}{last}").reshape(variable.shape))


put(model.get_layer("token_embedding"), "embeddings/word_embeddings")
table = reader.get_tensor("bert/embeddings/position_embeddings")
model.get_layer("position_embedding").weights[0].assign(table)
put(model.get_layer("segment_embedding"), "embeddings/token_type_embeddings")
put(model.get_layer("embeddings_layer_norm"), "embeddings/LayerNorm")
put(model.get_layer("pooled_dense"), "pooler/dense")
for i in range(config["num_hidden_layers"]):
    layer, scope = model.get_layer(f"transformer_layer_{i}"), f"encoder/layer_{i}"
    attention = layer._self_attention_layer
    for part in ("query", "key", "value"):
        put(getattr(attention, f"_{part}_dense"), f"{scope}/attention/self/{part}")
    put(attention._output_dense, f"{scope}/attention/output/dense")
    put(layer._self_attention_layer_norm, f"{scope}/attention/output/LayerNorm")
    put(layer._feedforward_intermediate_dense, f"{scope}/intermediate/dense")
    put(layer._feedforward_output_dense, f"{scope}/output/dense")
    put(layer._feedforward_layer_norm, f"{scope}/output/LayerNorm")
model.save_to_preset(str(HERE / "keras_hub"))
BertTokenizer(str(SOURCE / "vocab.txt"), lowercase=True).save_to_preset(str(HERE / "keras_hub"))
