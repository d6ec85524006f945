"""Checkpoints of other programs: each family's own file gives the numbers that were put into it."""

import json
import re
import shutil
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import numpy_bert
import pytest
import tensorflow as tf
from arrays import same
from hypothesis import assume, given
from hypothesis import strategies as st

from bert_tf import checkpoints
from bert_tf.checkpoints import google, inspect, model_garden, names, scopes
from bert_tf.checkpoints.convert import convert
from bert_tf.config import BertConfig
from bert_tf.tasks import classification
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.vocabulary import load_vocab, plain_contents

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
KERAS_BERT = GOLDEN / "keras_bert_test"
FAMILIES = GOLDEN / "families"
ERNIES = ("ernie_1", "ernie_3")
FAMILY = {  # folder -> what it is called, and the heads it has besides the pooler
    "model_garden_encoder": ("TensorFlow Model Garden", ()),
    "model_garden_pretrainer": ("TensorFlow Model Garden", ("cls/predictions",)),
    "model_garden_v2": ("TensorFlow Model Garden", ("cls/predictions",)),
    "tf_hub": ("SavedModel (TF-Hub)", ()),
    "keras_hub": ("KerasHub", ()),
    "hugging_face_tf": (
        "Hugging Face (tf_model.h5)",
        ("cls/predictions", "cls/seq_relationship"),
    ),
    "bert4keras": ("bert4keras", ("cls/predictions", "cls/seq_relationship")),
    "keras_bert": ("keras-bert", ("cls/predictions", "cls/seq_relationship")),
}
INPUTS = {
    "input_ids": np.array([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]], np.int32),
    "input_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
    "segment_ids": np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], np.int32),
}


@pytest.fixture(scope="module")
def original():
    """The numbers that every fixture but ERNIE's holds, as Google's code wrote them."""
    return checkpoints.read(KERAS_BERT, optimizer_state=False)


@pytest.mark.parametrize("folder", FAMILY)
def test_every_number_arrives(folder, original):
    family, heads = FAMILY[folder]
    found = checkpoints.contents(FAMILIES / folder)
    assert found.family == family and found.notes == ()
    assert same(
        found.tensors, {n: x for n, x in original.items() if n.startswith(("bert/", *heads))}
    )


@pytest.mark.parametrize("folder", FAMILY)
def test_every_family_gives_googles_model(folder):
    _, tokenizer, expected = checkpoints.from_pretrained(KERAS_BERT)
    config, own_tokenizer, model = checkpoints.from_pretrained(FAMILIES / folder)
    assert config.hidden_act == "gelu" and config.layer_norm_eps == 1e-12
    assert config.num_attention_heads == 4
    assert own_tokenizer.vocab == tokenizer.vocab and own_tokenizer.do_lower_case
    for name in ("sequence_output", "pooled_output"):
        np.testing.assert_array_equal(model(INPUTS)[name], expected(INPUTS)[name])


@pytest.mark.parametrize("folder", ERNIES)
def test_ernie_computes_what_paddle_computes(folder):
    config, tokenizer, model = checkpoints.from_pretrained(FAMILIES / folder)
    expected = np.load(FAMILIES / folder / "expected.npz")
    ids, segments = expected["input_ids"], expected["segment_ids"]
    inputs = {"input_ids": ids, "input_mask": (ids != 0) * 1, "segment_ids": segments}
    outputs = model(inputs)
    mask = ids != 0  # padding's own rows are of no use to anybody
    for name, rows in (("sequence_output", mask), ("pooled_output", slice(None))):
        np.testing.assert_allclose(outputs[name][rows], expected[name][rows], atol=2e-6)
    weights = checkpoints.read(FAMILIES / folder)
    numpy = numpy_bert.sequence_output(weights, config, **inputs)
    np.testing.assert_allclose(outputs["sequence_output"], numpy, atol=2e-6)
    assert config.layer_norm_eps == 1e-5
    assert tokenizer.convert_tokens_to_ids(["[CLS]", "的", "[UNK]"]) == [1, 5, 15]


def test_ernies_vocabulary_of_numbered_lines(tmp_path):
    source = FAMILIES / "ernie_1"
    assert (source / "vocab.txt").read_text().startswith("[PAD]\t0\n[CLS]\t1\n")
    convert(str(source), str(tmp_path), "huggingface")
    assert (tmp_path / "vocab.txt").read_bytes() == (FAMILIES / "ernie_3/vocab.txt").read_bytes()
    odd = tmp_path / "odd.txt"
    for text in ("a\t0\nb\t2\n", "a\t0\nb\n", "a\t0\n"):  # ids of another kind, or one line: text
        odd.write_text(text)
        assert list(load_vocab(odd)) == text.split("\n")[:-1]
        assert plain_contents(odd) == text.encode()
    odd.write_text("a\t0\r\nb c\t1\r\n\t\t2\n")
    assert load_vocab(odd) == {"a": 0, "b c": 1, "": 2}


@pytest.mark.parametrize("name", ["config.json", "bert_config.json", "model_config.json"])
def test_weights_of_paddle_mean_paddles_defaults(tmp_path, name):
    for file in ("ernie.pdparams", "vocab.txt"):
        shutil.copy(FAMILIES / "ernie_1" / file, tmp_path)
    shutil.copy(FAMILIES / "ernie_1" / "ernie_config.json", tmp_path / name)
    expected = checkpoints.config_of(checkpoints.locate(FAMILIES / "ernie_1"))
    assert checkpoints.from_pretrained(tmp_path)[0] == expected
    values = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(values | {"hidden_act": "gelu", "layer_norm_eps": 0.1}))
    config = checkpoints.config_of(checkpoints.locate(tmp_path))
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu_erf", 0.1)


def test_a_cased_module_of_tf_hub(tmp_path, original):
    """Its vocabulary and do_lower_case are the module's own, whatever the letters say."""
    module = tf.Module()
    heads = {"kernel": (4, 4, 1), "bias": (4, 1)}
    module.weights = [
        tf.Variable(
            x.reshape(heads[name.rpartition("/")[2]]) if "/self/" in name else x,
            name=f"bert_model/{model_garden.to_model_garden(name)}",
        )
        for name, x in original.items()
        if name.startswith("bert/")
    ]
    module.do_lower_case = tf.Variable(False, trainable=False)
    module.vocab_file = tf.saved_model.Asset(str(KERAS_BERT / "vocab.txt"))
    tf.saved_model.save(module, str(tmp_path))
    place = checkpoints.locate(tmp_path)
    assert place.do_lower_case is False and place.case_reason.startswith("do_lower_case in ")
    assert place.vocab_file == str(tmp_path / "assets" / "vocab.txt")
    assert checkpoints.locate(tmp_path / "variables" / "variables") == place
    config, tokenizer, _ = checkpoints.from_pretrained(tmp_path)
    assert config.num_attention_heads == 4 and not tokenizer.do_lower_case
    weights = {n: x for n, x in original.items() if n.startswith("bert/")}
    assert same(checkpoints.read(tmp_path), weights)


def test_configs_of_ernie():
    first, third = (checkpoints.from_pretrained(FAMILIES / folder)[0] for folder in ERNIES)
    assert (first.hidden_act, first.type_vocab_size, first.task_type_vocab_size) == ("relu", 2, 0)
    assert (third.hidden_act, third.type_vocab_size, third.task_type_vocab_size) == (
        *("gelu_erf", 4),
        3,
    )
    assert first.intermediate_size == 16 and third.intermediate_size == 12
    for config in (first, third):
        assert BertConfig.from_dict(json.loads(config.to_json_string())) == config
        assert BertConfig.from_dict(config.to_hf_dict()) == config
    second = {"vocab_size": 9, "sent_type_vocab_size": 4, "task_type_vocab_size": 16}
    config = BertConfig.from_dict(second | {"hidden_act": "relu"})
    assert (config.type_vocab_size, config.task_type_vocab_size) == (4, 0)
    assert config.layer_norm_eps == 1e-5


@pytest.mark.parametrize("folder", [*FAMILY, *ERNIES])
@pytest.mark.parametrize("format", ["google", "huggingface", "keras", "model_garden"])
def test_from_every_family_into_every_format(tmp_path, folder, format):
    source = FAMILIES / folder
    tensors = checkpoints.read(source)
    if format == "model_garden":  # which has no place for these
        tensors = {n: x for n, x in tensors.items() if "seq_rel" not in n and "task_type" not in n}
    place = checkpoints.locate(source)
    config = checkpoints.config_of(place)
    path = checkpoints.save(tensors, tmp_path, format, config=config, vocab_file=place.vocab_file)
    assert same(checkpoints.read(tmp_path), tensors)
    assert same(checkpoints.read(path), tensors)
    if format != "model_garden" or folder not in ERNIES:
        assert checkpoints.architecture(tmp_path)[0] == config


def test_converting_says_the_family(tmp_path):
    text = convert(str(FAMILIES / "tf_hub"), str(tmp_path), "google")
    assert "39 tensors, from SavedModel (TF-Hub)" in text and "do_lower_case=True" in text
    assert checkpoints.from_pretrained(tmp_path)[0].num_attention_heads == 4
    with pytest.raises(ValueError, match="have no place for cls/seq_relationship/output_bias"):
        convert(str(KERAS_BERT), str(tmp_path / "out"), "model_garden")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", [*FAMILY, *ERNIES])
def test_nothing_is_odd_about_them(folder):
    assert "\nodd " not in inspect.inspect(str(FAMILIES / folder))


def test_names_of_model_garden_go_both_ways(original):
    for name in original:
        if theirs := model_garden.to_model_garden(name):
            assert model_garden.google_name(theirs) == name
            assert model_garden.google_name(f"bert_encoder_v2/{theirs}") == name
    older = {  # official/nlp/tools/tf1_bert_checkpoint_converter_lib.py, BERT_NAME_REPLACEMENTS
        "bert_model/word_embeddings/embeddings": "embeddings/word_embeddings",
        "bert_model/embedding_postprocessor/type_embeddings": "embeddings/token_type_embeddings",
        "bert_model/embedding_postprocessor/position_embeddings": "embeddings/position_embeddings",
        "bert_model/embedding_postprocessor/layer_norm/beta": "embeddings/LayerNorm/beta",
        "bert_model/encoder/layer_7/self_attention/query/kernel": (
            "encoder/layer_7/attention/self/query/kernel"
        ),
        "bert_model/encoder/layer_7/self_attention_output/bias": (
            "encoder/layer_7/attention/output/dense/bias"
        ),
        "bert_model/encoder/layer_7/output_layer_norm/gamma": (
            "encoder/layer_7/output/LayerNorm/gamma"
        ),
        "bert_model/pooler_transform/kernel": "pooler/dense/kernel",
    }
    for theirs, ours in older.items():
        assert model_garden.google_name(theirs) == f"bert/{ours}"


def test_two_encoders_of_model_garden_are_refused(tmp_path, original):
    module = tf.Module()
    words = original["bert/embeddings/word_embeddings"]
    module.towers = [tf.Variable(words, name="word_embeddings/embeddings") for _ in range(2)]
    prefix = tf.train.Checkpoint(model=module).write(str(tmp_path / "model.ckpt-1"))
    with pytest.raises(ValueError, match="word_embeddings twice; it has more than one encoder"):
        checkpoints.read(prefix)


def test_optimizers_of_model_garden_are_left_out_and_counted(tmp_path, original):
    module = tf.Module()
    module.words = tf.Variable(
        original["bert/embeddings/word_embeddings"], name="word_embeddings/embeddings"
    )
    optimizer = tf.compat.v1.train.AdamOptimizer()
    optimizer.apply_gradients([(tf.ones_like(module.words), module.words)])
    saver = tf.train.Checkpoint(model=module, optimizer=optimizer)
    prefix = saver.write(str(tmp_path / "model.ckpt-1"))
    found = checkpoints.contents(prefix)
    assert found.notes == ("2 of the optimizer's tensors left out",)
    assert "bert/embeddings/word_embeddings" in found.tensors
    assert checkpoints.global_step(prefix) == 0


def test_other_object_based_checkpoints_are_refused(tmp_path):
    prefix = tf.train.Checkpoint(v=tf.Variable([1.0])).write(str(tmp_path / "model.ckpt-1"))
    with pytest.raises(ValueError, match="holds no BERT of Model Garden's: its variables are"):
        checkpoints.read(prefix)


FINE_TUNED = ["ernie_3", "tf_hub"]
LONGER = [name for name in (*FAMILY, *ERNIES) if name not in FINE_TUNED]


@pytest.mark.parametrize(
    "folder", [*FINE_TUNED, *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER)]
)
def test_run_classifier_fine_tunes_it(tmp_path, folder, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "dev"):
        (data / f"{name}.tsv").write_text("label\ttext\n0\t的 一 is\n1\tof 人 的\n")
    config = ClassificationConfig(
        task_name="tsv",
        text_a_column="text",
        data_dir=str(data),
        init_checkpoint=str(FAMILIES / folder),
        output_dir=str(tmp_path / "out"),
        max_seq_length=8,
        train_batch_size=2,
        do_train=True,
        do_eval=True,
    )
    result = classification.run(config)
    assert np.isfinite(result["metrics"]["eval"]["eval_loss"])
    said = capsys.readouterr().out
    assert "100% of the encoder's parameters found" in said
    again, _, model = checkpoints.from_pretrained(tmp_path / "out" / "final_model")
    assert again == checkpoints.config_of(checkpoints.locate(FAMILIES / folder))
    assert model.config.layer_norm_eps == again.layer_norm_eps


def scoped(tensors, rename):
    return {rename(name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("rename", "note"),
    [
        (lambda n: f"bert_pre_trained_model/{n}", "'bert_pre_trained_model/bert'"),
        (lambda n: f"a/b/{n}", "'a/b/bert'"),
        (lambda n: n.replace("bert/", "roberta/"), "'roberta'"),
        (lambda n: n.removeprefix("bert/"), "''"),
    ],
)
def test_scopes_in_front_are_read_and_reported(tmp_path, original, rename, note):
    tensors = scoped(checkpoints.read(KERAS_BERT), rename)
    prefix = str(tmp_path / "model.ckpt")
    google.write(prefix, tensors)
    found = checkpoints.contents(prefix, optimizer_state=False)
    assert same(found.tensors, original)
    assert found.notes == (f"scope {note} read as 'bert'",)
    slots = {n: x for n, x in checkpoints.read(prefix).items() if n.endswith("/adam_m")}
    assert len(slots) == 46 and all(n.startswith(("bert/", "cls/")) for n in slots)
    shutil.copy(KERAS_BERT / "bert_config.json", tmp_path / "config.json")
    shutil.copy(KERAS_BERT / "vocab.txt", tmp_path)
    assert checkpoints.from_pretrained(tmp_path)[0].hidden_size == 4  # EasyTransfer's layout
    assert f"found       scope {note}" in inspect.inspect(str(tmp_path))


SCOPES = st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True), max_size=3)


@given(
    scope=SCOPES,
    inner=st.just("bert") | st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
    heads_inside=st.booleans(),
    slots=st.booleans(),
)
def test_any_scope_comes_off(original, scope, inner, heads_inside, slots):
    front = "".join(f"{part}/" for part in scope)
    assume(front + inner != "bert")
    heads = f"{front}{inner}/" if heads_inside else front
    names_in_file = {
        re.sub("^bert/", f"{front}{inner}/", name) if "bert/" in name else heads + name: name
        for name in original
    }
    if slots:
        names_in_file |= {
            f"{theirs}/adam_m": f"{name}/adam_m" for theirs, name in names_in_file.items()
        }
        names_in_file |= {f"{front}global_step": "global_step"}
    plan = scopes.plan(list(names_in_file))
    assert plan.sources == {name: theirs for theirs, name in names_in_file.items()}
    assert plan.notes == (f"scope {front + inner!r} read as 'bert'",)


LINES = st.lists(st.text(st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"])))


@given(tokens=LINES.filter(lambda lines: len(lines) > 1))
def test_numbered_vocabularies_equal_plain_ones(tmp_path_factory, tokens):
    folder = tmp_path_factory.mktemp("vocab")
    plain, numbered = folder / "plain.txt", folder / "numbered.txt"
    plain.write_bytes("".join(f"{token}\n" for token in tokens).encode())
    lines = (f"{token}\t{number}\n" for number, token in enumerate(tokens))
    numbered.write_bytes("".join(lines).encode())
    assert plain_contents(numbered) == plain.read_bytes()
    assume(plain_contents(plain) == plain.read_bytes())  # not numbered by itself
    assert load_vocab(numbered) == load_vocab(plain)


def test_averages_and_the_slots_of_other_optimizers(tmp_path, original):
    tensors = dict(original)
    tensors |= {f"{name}/ExponentialMovingAverage": x + 1 for name, x in original.items()}
    tensors |= {f"{name}/{slot}": x for name, x in original.items() for slot in ("LAMB", "LAMB_1")}
    prefix = str(tmp_path / "model.ckpt")
    google.write(prefix, tensors)
    found = checkpoints.contents(prefix, optimizer_state=False)
    assert same(found.tensors, original)
    assert found.notes == ("46 exponential averages left out, beside their weights",)
    assert "optimizer   LAMB, 92 tensors" in inspect.inspect(prefix)
    google.write(prefix, {n: x for n, x in tensors.items() if n.endswith("Average")})
    found = checkpoints.contents(prefix)
    assert same(found.tensors, {name: x + 1 for name, x in original.items()})
    assert found.notes == ("46 weights are exponential averages",)


def test_of_two_encoders_none_is_guessed(tmp_path, original):
    both = scoped(original, lambda n: f"teacher/{n}") | scoped(original, lambda n: f"student/{n}")
    prefix = str(tmp_path / "model.ckpt")
    google.write(prefix, both)
    with pytest.raises(ValueError, match="2 encoders, under student/bert, teacher/bert; write the"):
        checkpoints.read(prefix)
    with pytest.raises(ValueError, match="scope 'mine/bert', (mine/)?output_bias bears another"):
        scopes.plan(["mine/bert/embeddings/word_embeddings", "mine/output_bias", "output_bias"])
    plain = scopes.plan([*both, *original])
    assert plain.sources["bert/pooler/dense/kernel"] == "bert/pooler/dense/kernel"
    assert "teacher/bert/pooler/dense/kernel" in plain.sources


def test_the_report_says_what_was_found(tmp_path, original):
    prefix = str(tmp_path / "model.ckpt")
    google.write(prefix, scoped(original, lambda n: f"mine/{n}"))
    _, _, model = checkpoints.from_pretrained(KERAS_BERT)
    assert "scope 'mine/bert' read as 'bert'" in str(checkpoints.load(model, prefix))


def test_hugging_faces_conversion_of_ernie(tmp_path):
    """As nghuyong/ernie-3.0-base-zh names them: `ernie.`, and model_type "ernie"."""
    tensors = checkpoints.read(FAMILIES / "ernie_3") | {"output_bias": np.zeros(2, np.float32)}
    config = checkpoints.config_of(checkpoints.locate(FAMILIES / "ernie_3"))
    checkpoints.save(tensors, tmp_path, "huggingface", config=config)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["model_type"] == "ernie" and values["use_task_id"]
    assert values["architectures"] == ["ErnieForSequenceClassification"]
    found = checkpoints.contents(tmp_path)
    assert found.family == "Hugging Face (ERNIE)" and same(found.tensors, tensors)
    assert checkpoints.config_of(checkpoints.locate(tmp_path)).task_type_vocab_size == 3


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_narrow_numbers_are_widened_and_said(tmp_path, original, kind):
    import ml_dtypes
    from safetensors.numpy import save_file

    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    theirs = names.to_hugging_face_tensors(original)
    save_file({n: x.astype(dtype) for n, x in theirs.items()}, tmp_path / "model.safetensors")
    found = checkpoints.contents(tmp_path)
    assert same(found.tensors, {n: x.astype(dtype).astype(np.float32) for n, x in original.items()})
    assert found.notes == (f"46 tensors are {kind}, read as float32",)


def test_a_keras_hub_preset_in_bfloat16(tmp_path, original):
    shutil.copytree(FAMILIES / "keras_hub", tmp_path, dirs_exist_ok=True)
    with h5py.File(tmp_path / "model.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda name, x: found.append(name) if isinstance(x, h5py.Dataset) else None)
        for name in found:  # as Keras writes one, in saving_lib's H5Entry
            value = file[name][()].astype(ml_dtypes.bfloat16)
            del file[name]
            file.create_dataset(name, data=value).attrs["dtype"] = "bfloat16"
    found = checkpoints.contents(tmp_path)
    assert found.family == "KerasHub"
    assert found.notes == (f"{len(found.tensors)} tensors are bfloat16, read as float32",)
    rounded = {
        name: x.astype(ml_dtypes.bfloat16).astype(np.float32)
        for name, x in original.items()
        if name.startswith("bert/")
    }
    assert same(found.tensors, rounded)


def test_a_keras_archive_and_one_with_code_in_it(tmp_path, original):
    import zipfile

    def archive(config):
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("config.json", config)
            file.write(FAMILIES / "keras_hub" / "model.weights.h5", "model.weights.h5")
        return path

    found = checkpoints.contents(archive("{}"))
    assert found.family == "KerasHub"
    assert same(found.tensors, {n: x for n, x in original.items() if n.startswith("bert/")})
    with pytest.raises(ValueError, match="model.keras is refused: it has a Lambda layer"):
        checkpoints.read(archive('{"layers": [{"class_name": "Lambda"}]}'))
