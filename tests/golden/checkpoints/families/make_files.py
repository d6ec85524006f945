"""Writes this folder's files, each with its family's own package: `python make_files.py`.

Every file holds the numbers of ../keras_bert_test, put there by the family's own converter where
it has one. An environment of its own: tensorflow 2.21, tf-keras 2.21, tf-models-official 2.20,
transformers 4.49, bert4keras 0.11.5, keras-bert 0.89. keras_hub_preset.py and
paddle_files.py, which cannot share a process with these, do the same with KerasHub and Paddle.
"""

import json
import os
import shutil
import sys
import types
from pathlib import Path

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_KERAS="1")
sys.modules["tensorflow_datasets"] = types.ModuleType("not needed here")

import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

HERE = Path(__file__).parent
SOURCE = HERE.parent / "keras_bert_test"
CONFIG = json.loads((SOURCE / "bert_config.json").read_text())


def source() -> dict:
    reader = tf.train.load_checkpoint(str(SOURCE / "bert_model.ckpt"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def put(layers, names) -> None:
    """Assigns Google's numbers to Keras variables whose names end in Google's names."""
    tensors = source()
    for variable in layers:
        name = names(variable.name)
        variable.assign(tensors[name].reshape(variable.shape))


def model_garden() -> None:
    from official.legacy.bert import configs
    from official.nlp.modeling import models, networks
    from official.nlp.tools import tf1_bert_checkpoint_converter_lib as lib
    from official.nlp.tools import tf2_bert_encoder_checkpoint_converter as converter

    config = configs.BertConfig.from_json_file(str(SOURCE / "bert_config.json"))
    for kind, key in (("encoder", "encoder"), ("pretrainer", "model")):
        folder = HERE / f"model_garden_{kind}"
        path = str(folder / "bert_model.ckpt")
        converter.convert_checkpoint(config, path, str(SOURCE / "bert_model.ckpt"), key, kind)
        describe(folder)
    # The later generation, a layer and no functional model.
    encoder = networks.BertEncoderV2(
        vocab_size=15,
        hidden_size=4,
        num_layers=2,
        num_attention_heads=4,
        inner_dim=16,
        max_sequence_length=16,
        type_vocab_size=2,
    )
    pretrainer = models.BertPretrainerV2(encoder_network=encoder)
    pretrainer(pretrainer.inputs)
    table = lib.BERT_V2_NAME_REPLACEMENTS
    renamed = {lib._bert_name_replacement(name, table): name for name in source()}
    put(pretrainer.variables, lambda name: renamed[name.split("v2/")[-1].removesuffix(":0")])
    folder = HERE / "model_garden_v2"
    tf.train.Checkpoint(model=pretrainer).save(str(folder / "bert_model.ckpt"))
    describe(folder)


def describe(folder: Path) -> None:
    for name in ("bert_config.json", "vocab.txt"):
        shutil.copy(SOURCE / name, folder)
    (folder / "checkpoint").unlink(missing_ok=True)


def tf_hub() -> None:
    from official.nlp.configs import encoders
    from official.nlp.tools import export_tfhub_lib as lib

    config = encoders.EncoderConfig(
        type="bert",
        bert=encoders.BertEncoderConfig(
            vocab_size=15,
            hidden_size=4,
            num_layers=2,
            num_attention_heads=4,
            intermediate_size=16,
            max_position_embeddings=16,
            type_vocab_size=2,
        ),
    )
    checkpoint = tf.train.latest_checkpoint(HERE / "model_garden_encoder") or str(
        HERE / "model_garden_encoder" / "bert_model.ckpt-1"
    )
    lib.export_model(
        str(HERE / "tf_hub"),
        encoder_config=config,
        model_checkpoint_path=checkpoint,
        with_mlm=False,
        vocab_file=str(SOURCE / "vocab.txt"),
        do_lower_case=True,
    )
    # The graph is 0.9 MB and is not read: the file keeps what says where the assets are.
    path = HERE / "tf_hub" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        graph.ClearField("graph_def")
        graph.ClearField("object_graph_def")
    path.write_bytes(saved.SerializeToString())
    (HERE / "tf_hub" / "keras_metadata.pb").unlink()
    (HERE / "tf_hub" / "fingerprint.pb").unlink()


def hugging_face_tf() -> None:
    from transformers import BertConfig, TFBertForPreTraining

    config = BertConfig(**{**CONFIG, "hidden_act": "gelu_new"})
    model = TFBertForPreTraining(config)
    model(model.dummy_inputs)

    def google(name: str) -> str:
        name = name.removesuffix(":0").removeprefix("tf_bert_for_pre_training/")
        name = name.replace("layer_._", "layer_").replace("/embeddings/weight", "/weight")
        name = name.replace("word_embeddings/weight", "word_embeddings")
        name = name.replace("token_type_embeddings/embeddings", "token_type_embeddings")
        name = name.replace("position_embeddings/embeddings", "position_embeddings")
        name = name.replace("nsp___cls", "cls").replace("mlm___cls", "cls")
        name = name.replace("predictions/bias", "predictions/output_bias")
        name = name.replace("seq_relationship/kernel", "seq_relationship/output_weights")
        return name.replace("seq_relationship/bias", "seq_relationship/output_bias")

    tensors = source()
    for variable in model.variables:
        tensor = tensors[google(variable.name)]
        variable.assign(tensor.T if "seq_relationship/kernel" in variable.name else tensor)
    model.save_pretrained(HERE / "hugging_face_tf", safe_serialization=False)
    shutil.copy(SOURCE / "vocab.txt", HERE / "hugging_face_tf")


def bert4keras() -> None:
    from bert4keras.models import build_transformer_model

    paths = [str(SOURCE / name) for name in ("bert_config.json", "bert_model.ckpt")]
    model = build_transformer_model(*paths, with_pool=True, with_nsp=True, with_mlm=True)
    folder = HERE / "bert4keras"
    folder.mkdir(exist_ok=True)
    model.save_weights(str(folder / "bert4keras.h5"))
    describe(folder)


def keras_bert() -> None:
    from keras_bert import load_trained_model_from_checkpoint

    paths = [str(SOURCE / name) for name in ("bert_config.json", "bert_model.ckpt")]
    model = load_trained_model_from_checkpoint(*paths, training=True, seq_len=None)
    folder = HERE / "keras_bert"
    folder.mkdir(exist_ok=True)
    model.save_weights(str(folder / "keras_bert.h5"))
    describe(folder)


if __name__ == "__main__":
    makers = (model_garden, tf_hub, hugging_face_tf, bert4keras, keras_bert)
    for make in makers:
        if len(sys.argv) == 1 or make.__name__ in sys.argv[1:]:
            make()
