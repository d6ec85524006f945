"""BertModel against outputs recorded from Google's code, in every way it can be run."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from bert_tf import layers
from bert_tf.config import BertConfig
from bert_tf.dropout import dropout
from bert_tf.modeling import BertModel, checkpoint_name, dropout_seed

GOLDEN = Path(__file__).parent / "golden" / "modeling"
INPUTS = ("input_ids", "input_mask", "segment_ids")
SPEC = {name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}
SMALL = BertConfig(50, 16, 2, 2, 32, max_position_embeddings=12, type_vocab_size=2)


def load_golden(name):
    """Config, recorded arrays and a checkpoint reader of one golden model."""
    folder = GOLDEN / name
    reader = tf.train.load_checkpoint(str(folder / "bert_model.ckpt"))
    with np.load(folder / "golden.npz") as arrays:
        arrays = dict(arrays)
    return BertConfig.from_json_file(folder / "bert_config.json"), arrays, reader


def restore(model, reader):
    for variable in model.variables:
        variable.assign(reader.get_tensor(checkpoint_name(variable)))


def close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=0)


@pytest.fixture(scope="module", params=["gelu", "relu_types16"])
def golden(request):
    config, arrays, reader = load_golden(request.param)
    bert = BertModel(config)
    bert.build()
    restore(bert, reader)
    return bert, arrays, reader


@pytest.fixture
def bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def small_inputs(batch=3, length=12):
    ids = np.random.default_rng(0).integers(0, 50, [batch, length]).astype(np.int32)
    mask = (np.arange(length) < np.arange(length, length - batch, -1)[:, None]).astype(np.int32)
    return {"input_ids": ids, "input_mask": mask, "segment_ids": ids % 2}


# --- the numbers ---


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_outputs_are_googles(golden, mode):
    bert, arrays, _ = golden
    call = {
        "eager": bert,
        "graph": tf.function(bert, input_signature=[SPEC]),
        "xla": tf.function(bert, jit_compile=True),
    }[mode]
    outputs = call({name: tf.constant(arrays[name]) for name in INPUTS})
    close(outputs["pooled_output"], arrays["out/pooled"])
    close(outputs["sequence_output"], arrays["out/sequence"])
    close(outputs["embedding_output"], arrays["out/embedding"])
    for i, output in enumerate(outputs["encoder_outputs"]):
        close(output, arrays[f"out/layer_{i}"])


def test_variables_are_googles(golden):
    bert, _, reader = golden
    shapes = reader.get_variable_to_shape_map()
    expected = {name: shape for name, shape in shapes.items() if name.startswith("bert/")}
    assert {v.path: list(v.shape) for v in bert.variables} == expected
    assert {checkpoint_name(v) for v in bert.variables} == expected.keys()


def test_getters_return_the_latest_outputs(golden):
    bert, arrays, _ = golden
    bert({name: arrays[name] for name in INPUTS})
    close(bert.get_pooled_output(), arrays["out/pooled"])
    close(bert.get_sequence_output(), arrays["out/sequence"])
    close(bert.get_embedding_output(), arrays["out/embedding"])
    close(bert.get_all_encoder_layers()[0], arrays["out/layer_0"])
    assert bert.get_embedding_table().shape == (101, 32)


def test_initial_values_are_drawn_like_googles():
    bert = BertModel(BertConfig(2000, 64, 1, 2, 128))
    bert.build()
    for variable in bert.variables:
        values = variable.numpy()
        if variable.path.endswith(("beta", "bias")):
            assert not values.any()
        elif variable.path.endswith("gamma"):
            assert (values == 1).all()
        else:
            assert np.abs(values).max() <= 0.04
            assert values.std() == pytest.approx(0.0176, rel=0.1)  # 0.02, cut at two deviations


# --- the gradients written by hand ---


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("name", ["gelu", "gelu_erf"])
def test_gelu(name, dtype):
    x = tf.cast(tf.linspace(-6.0, 6.0, 201), dtype)
    exact = tf.cast(x, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layers.get_activation(name)(x)
    with tf.GradientTape() as exact_tape:
        exact_tape.watch(exact)
        exact_y = tf.nn.gelu(exact, approximate=name == "gelu")
    relative, absolute = (0, 5e-6) if dtype == tf.float32 else (2**-8, 5e-6)
    np.testing.assert_allclose(tf.cast(y, tf.float64), exact_y, rtol=relative, atol=absolute)
    slope = tf.cast(tape.gradient(y, x), tf.float64)
    exact_slope = exact_tape.gradient(exact_y, exact)
    np.testing.assert_allclose(slope, exact_slope, rtol=relative, atol=absolute)


def test_layer_norm_gradient():
    rng = np.random.default_rng(1)
    x, weights = (tf.constant(rng.normal(2, 3, [5, 16])) for _ in range(2))
    gamma, beta = (tf.constant(rng.normal(1, 1, [16])) for _ in range(2))

    def plain(x, gamma, beta):
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y = function(x, gamma, beta)
        return [y, *tape.gradient(y, [x, gamma, beta], weights)]

    for ours, theirs in zip(
        gradients(lambda *args: layers.layer_norm(*args, 1e-12)), gradients(plain), strict=True
    ):
        close(ours, theirs, atol=1e-12)


# --- dropout ---


def test_dropout_share_and_scale_are_exact():
    x = tf.ones([1000, 1001])
    y = dropout(x, 0.1).numpy()
    share = 26 / 256  # 0.1 to eight bits
    assert set(np.unique(y)) == {0.0, np.float32(256 / 230)}
    assert (y == 0).mean() == pytest.approx(share, abs=0.002)
    assert y.mean() == pytest.approx(1, abs=0.003)


def test_dropout_gradient_is_its_mask():
    x = tf.random.normal([64, 33])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, 0.5)
    close(tape.gradient(y, x), np.where(y.numpy() == 0, 0, 2), atol=0)


def test_dropout_seed_repeats_and_calls_differ():
    def masks(seed):
        with dropout_seed(tf.constant(seed)):
            return [dropout(tf.ones([50, 50]), 0.1).numpy() for _ in range(2)]

    first, second = masks([1, 2])
    again, _ = masks([1, 2])
    other, _ = masks([1, 3])
    assert (first == again).all()
    assert (first != second).any()
    assert (first != other).any()


def test_dropout_follows_the_global_seed_outside_of_dropout_seed():
    def mask():
        tf.random.set_seed(7)
        return dropout(tf.ones([50, 50]), 0.1).numpy()

    assert (mask() == mask()).all()


def test_training_drops_everywhere_google_does():
    bert = BertModel(SMALL)
    calls = []
    for layer in bert._flatten_layers():
        if type(layer).__name__ == "Dropout":
            layer.call = lambda x, training=False, call=layer.call: (
                calls.append(training) or call(x, training)
            )
    plain = bert(small_inputs())["sequence_output"].numpy()
    dropped = bert(small_inputs(), training=True)["sequence_output"].numpy()
    assert calls == [False] * 7 + [True] * 7  # embeddings; probabilities and two outputs a layer
    assert np.abs(plain - dropped).max() > 0.1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_training_step_is_a_function_of_its_seed(jit_compile):
    bert = BertModel(dataclasses.replace(SMALL, num_hidden_layers=1))
    bert.build()
    variables = [v for v in bert.trainable_variables if "pooler" not in v.path]

    @tf.function(jit_compile=jit_compile)
    def step(seed):
        with dropout_seed(seed), tf.GradientTape() as tape:
            loss = tf.reduce_sum(bert(small_inputs(), training=True)["sequence_output"] ** 3)
        return loss, tape.gradient(loss, variables)

    loss, gradients = step(tf.constant([3, 4]))
    again, _ = step(tf.constant([3, 4]))
    other, _ = step(tf.constant([3, 5]))
    assert loss == again
    assert loss != other
    for variable, gradient in zip(variables, gradients, strict=True):
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all() and values.any(), variable.path


def test_replicas_draw_from_their_own_seeds():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([devices[0].name])
    with strategy.scope():
        bert = BertModel(SMALL)
        bert.build()

    @tf.function
    def run(seed):
        def replica():
            with dropout_seed(seed):
                return bert(small_inputs(), training=True)["sequence_output"]

        return strategy.run(replica)

    with dropout_seed(tf.constant([1, 1])):
        expected = bert(small_inputs(), training=True)["sequence_output"]
    close(run(tf.constant([1, 1])), expected)


# --- as a Keras layer ---


def test_mask_and_segments_default_to_ones_and_zeros(golden):
    bert, arrays, _ = golden
    ids = arrays["input_ids"]
    spelled_out = {"input_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    close(
        bert({"input_ids": ids})["sequence_output"],
        bert({"input_ids": ids, **spelled_out})["sequence_output"],
        atol=0,
    )


def test_hugging_faces_names_are_taken_for_googles(golden):
    bert, arrays, _ = golden
    ids, mask, segments = (arrays[name] for name in INPUTS)
    theirs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    ours = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    close(bert(theirs)["pooled_output"], bert(ours)["pooled_output"], atol=0)
    assert np.abs(bert({"input_ids": ids})["pooled_output"] - bert(ours)["pooled_output"]).max() > 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("input_ids", "mask"), "the input 'mask' is not known; use input_ids, input_mask, seg"),
        (("input_ids", "input_mask", "attention_mask"), "input_mask and Hugging Face's name for"),
        (("input_mask",), "called with a dict"),
    ],
)
def test_inputs_of_other_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        BertModel(SMALL)(dict.fromkeys(names, np.ones([1, 4], np.int32)))


def test_googles_way_to_call_the_model_is_explained():
    ids = np.ones([1, 4], np.int32)
    message = r"makes the layer alone; call it afterwards: bert\(.*training=is_training"
    with pytest.raises(TypeError, match=message):
        BertModel(config=SMALL, is_training=True, input_ids=ids, input_mask=ids, token_type_ids=ids)
    for arguments in ((True, ids), (True, ids, ids, ids, False), (ids,)):
        with pytest.raises(TypeError, match=message):
            BertModel(SMALL, *arguments)
    with pytest.raises(ValueError, match="called with a dict"):
        BertModel(SMALL)(input_ids=ids)


def test_without_a_pooler():
    bert = BertModel(SMALL, add_pooler=False)
    assert "pooled_output" not in bert(small_inputs())
    assert not [v.path for v in bert.variables if "pooler" in v.path]


def test_one_hot_embeddings_are_the_same():
    plain, one_hot = BertModel(SMALL), BertModel(SMALL, use_one_hot_embeddings=True)
    expected = plain(small_inputs())["embedding_output"]
    one_hot.build()
    one_hot.set_weights(plain.get_weights())
    close(one_hot(small_inputs())["embedding_output"], expected, atol=1e-6)
    assert BertModel.from_config(one_hot.get_config()).embeddings.use_one_hot_embeddings


def test_bfloat16_is_close_and_keeps_float32_variables(golden, bfloat16):
    exact, arrays, reader = golden
    bert = BertModel(exact.config)
    bert.build()
    restore(bert, reader)
    outputs = bert({name: arrays[name] for name in INPUTS})
    assert {v.dtype for v in bert.variables} == {"float32"}
    assert {x.dtype for x in tf.nest.flatten(outputs)} == {tf.bfloat16}
    close(tf.cast(outputs["sequence_output"], tf.float32), arrays["out/sequence"], atol=0.08)
    assert bert.encoder.stack[0].attention.residual_output.layer_norm.gamma.dtype == "float32"


def test_layers_follow_the_models_own_policy():
    bert = BertModel(SMALL, dtype="mixed_bfloat16")
    assert bert(small_inputs())["sequence_output"].dtype == tf.bfloat16
    again = BertModel.from_config(bert.get_config())
    assert again(small_inputs())["sequence_output"].dtype == tf.bfloat16
    assert again.config == SMALL


class Subclassed(keras.Model):
    """Somebody's model, as in a tutorial."""

    def __init__(self):
        super().__init__()
        self.bert = BertModel(SMALL)
        self.classifier = keras.layers.Dense(3)

    def call(self, inputs, training=False):
        return self.classifier(self.bert(inputs, training=training)["pooled_output"])


def functional():
    inputs = {name: keras.Input([None], dtype="int32", name=name) for name in INPUTS}
    bert = BertModel(SMALL)
    bert(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(bert.get_pooled_output()))


@pytest.mark.parametrize(
    ("make", "policy"), [(Subclassed, "float32"), (functional, "mixed_bfloat16")]
)
def test_trains_inside_any_keras_model(make, policy, request):
    if policy != "float32":
        request.getfixturevalue("bfloat16")
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    history = model.fit(small_inputs(8), np.arange(8) % 3, epochs=3, batch_size=8, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    names = {checkpoint_name(v) for v in model.get_layer("bert").variables}
    assert names == {v.path for v in built().variables}


def built():
    bert = BertModel(SMALL)
    bert.build()
    return bert


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_round_trip(tmp_path, suffix):
    model = functional()
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        again = keras.models.load_model(path)
        assert again.get_layer("bert").config == SMALL
    else:
        model.save_weights(path)
        again = functional()
        again.load_weights(path)
    close(again(small_inputs()), model(small_inputs()), atol=0)


def test_saved_model(tmp_path):
    bert = built()
    bert.serve = tf.function(lambda x: bert(x)["pooled_output"], input_signature=[SPEC])
    tf.saved_model.save(bert, str(tmp_path))
    inputs = {name: tf.constant(value) for name, value in small_inputs().items()}
    served = tf.saved_model.load(str(tmp_path))
    close(served.serve(inputs), bert(inputs)["pooled_output"], atol=1e-6)


def test_checkpoint_name_ignores_what_stands_around_the_encoder():
    class Holder(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="two_towers")
            self.tower = BertModel(SMALL, name="query_tower")

        def build(self, input_shape=None):
            self.tower.build()

    holder = Holder()
    holder.build()
    assert holder.variables[0].path == "two_towers/query_tower/embeddings/word_embeddings"
    assert {checkpoint_name(v) for v in holder.variables} == {v.path for v in built().variables}


def test_checkpoint_name_keeps_the_path_of_other_layers():
    inputs = keras.Input([4])
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="scores")(hidden))
    names = ["hidden/kernel", "hidden/bias", "scores/kernel", "scores/bias"]
    assert [checkpoint_name(v) for v in model.variables] == names


# --- errors ---


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": np.zeros([1, 13], np.int32)}, "of 13 tokens exceed this model's 12 posit"),
        ({"input_ids": np.zeros([1, 4], np.float32)}, "input_ids is .*float32.*; integers are"),
        ({"input_mask": np.zeros([1, 4], np.int32)}, "called with a dict"),
        (np.zeros([1, 4], np.int32), "called with a dict"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(ValueError, match=message):
        built()(inputs)


def test_getters_say_what_is_missing():
    bert = BertModel(SMALL, add_pooler=False)
    with pytest.raises(ValueError, match="bert has no sequence_output: it was not called yet"):
        bert.get_sequence_output()
    bert(small_inputs())
    with pytest.raises(ValueError, match="bert has no pooled_output: it has no pooler"):
        bert.get_pooled_output()


def test_unknown_id_is_an_error_on_a_cpu():
    with pytest.raises(tf.errors.InvalidArgumentError, match="50 is not in"):
        built()({"input_ids": np.array([[0, 50]])})
