"""The optimizer against Google's recorded steps, and its behaviour under strategies."""

import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from bert_tf.config import BertConfig
from bert_tf.heads import classifier
from bert_tf.keras_optimizer import KerasOptimizer, Schedule
from bert_tf.modeling import checkpoint_name
from bert_tf.optimization import create_optimizer, decayed

GOLDEN = pathlib.Path(__file__).parent / "golden"


def by_prefix(arrays, prefix):
    return {k.removeprefix(prefix): arrays[k] for k in arrays if k.startswith(prefix)}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "optimization.npz")


def golden_optimizer(golden):
    numbers = (golden[k].item() for k in ("init_lr", "num_train_steps", "num_warmup_steps"))
    return create_optimizer(*numbers)


@pytest.mark.parametrize("compiled", [False, True])
def test_every_step_equals_googles(golden, compiled):
    optimizer = golden_optimizer(golden)
    initial, gradients, after = (by_prefix(golden, p) for p in ("init/", "grad/", "after/"))
    variables = {name: tf.Variable(value, name=name) for name, value in initial.items()}
    step = tf.function(optimizer.apply_gradients) if compiled else optimizer.apply_gradients
    for i in range(12):
        step([(tf.constant(gradients[n][i], tf.float32), v) for n, v in variables.items()])
        for name, variable in variables.items():
            np.testing.assert_allclose(variable, after[name][i], rtol=0, atol=1e-6, err_msg=name)
    assert optimizer.global_step.numpy() == 12


def test_moments_are_googles_formula(golden):
    optimizer = golden_optimizer(golden)
    name = "output_weights"
    variable = tf.Variable(golden[f"init/{name}"], name=name)
    m = v = 0.0
    for gradient in golden[f"grad/{name}"]:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
        gradient = gradient / max(1.0, np.linalg.norm(gradient))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    np.testing.assert_allclose(optimizer.slots["output_weights/adam_m"], m, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(optimizer.slots["output_weights/adam_v"], v, rtol=2e-6)


def test_training_a_classifier_follows_googles_trajectory():
    golden = np.load(GOLDEN / "classifier/trajectory.npz")
    source = GOLDEN / "modeling/gelu"
    config = BertConfig.from_json_file(source / "bert_config.json")
    config = BertConfig.from_dict(
        config.to_dict() | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    model = classifier(config, num_labels=3, dropout_rate=0.0)
    start = tf.train.load_checkpoint(str(source / "bert_model.ckpt"))
    for variable in model.variables:
        variable.assign(start.get_tensor(checkpoint_name(variable)))
    numbers = (golden[k].item() for k in ("learning_rate", "num_train_steps", "num_warmup_steps"))
    optimizer = create_optimizer(*numbers)

    @tf.function
    def step(inputs, labels):
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)["logits"]
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    names = ("input_ids", "input_mask", "segment_ids")
    losses = [
        step({name: tf.constant(golden[name][i]) for name in names}, golden["label_ids"][i]).numpy()
        for i in range(10)
    ]
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-5)
    final = by_prefix(golden, "final/")
    assert set(final) == {checkpoint_name(v) for v in model.variables}
    for variable in model.variables:
        name = checkpoint_name(variable)
        np.testing.assert_allclose(variable, final[name], rtol=0, atol=1e-5, err_msg=name)


def test_rows_of_an_embedding_count_one_by_one_in_the_norm():
    optimizer = create_optimizer(0.1, 10, 0)
    table = tf.Variable(tf.zeros([3, 2]), name="word_embeddings")
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([3, 2]))
    assert optimizer.apply_gradients([(rows, table)]).numpy() == pytest.approx(2.0)
    # Summed, halved by clipping, times 1 - beta_1.
    moment = optimizer.slots["word_embeddings/adam_m"].numpy()
    np.testing.assert_allclose(moment, [[0, 0], [0.1, 0.1], [0, 0]], rtol=1e-6)


def test_learning_rate_grows_then_follows_the_unshifted_line():
    optimizer = create_optimizer(1.0, 10, 4)
    rates = []
    for step in range(11):
        optimizer.global_step.assign(step)
        rates.append(optimizer.learning_rate.numpy())
    np.testing.assert_allclose(
        rates, [0.25, 0.5, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0], atol=1e-7
    )
    assert create_optimizer(1.0, 10, 0).learning_rate.numpy() == pytest.approx(0.9)


@pytest.mark.parametrize("rule", ["adamw", "lamb"])
def test_model_compile_takes_the_same_numbers(rule, tmp_path):
    config = BertConfig(
        **{"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 4, "max_position_embeddings": 8},
    )
    model, other = classifier(config, 2), classifier(config, 2)
    other.set_weights(model.get_weights())
    theirs, ours = KerasOptimizer(Schedule(0.01, 10, 2), rule), create_optimizer(0.01, 10, 2, rule)
    words = next(v for v in model.trainable_variables if v.path.endswith("word_embeddings"))
    for step in range(4):
        gradients = [
            tf.IndexedSlices(random_normal([3, 4], step), [2, 5, 2], v.shape)  # a row twice
            if v is words
            else random_normal(v.shape, step)
            for v in model.trainable_variables
        ]
        assert float(theirs.learning_rate) == pytest.approx(ours.learning_rate.numpy())
        theirs.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        ours.apply_gradients(zip(gradients, other.trainable_variables, strict=True))
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    # In model.compile, and saved with the model.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(theirs, loss={"logits": loss}, jit_compile=False)
    ids = np.array([[2, 5, 5, 3], [2, 7, 3, 0]], np.int32)
    inputs = {"input_ids": ids, "input_mask": np.sign(ids), "segment_ids": np.zeros_like(ids)}
    model.train_on_batch(inputs, {"logits": np.array([1, 0])})
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert again.rule == rule and again.iterations.numpy() == 5
    assert float(again.learning_rate) == pytest.approx(0.01 * 0.4)
    for a, b in zip(again.variables, theirs.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="use bert_tf.keras_optimizer.KerasOptimizer"):
        model.compile(ours)


def random_normal(shape, seed):
    return tf.random.stateless_normal(shape, [seed, len(shape)])


def test_the_linear_schedule_is_that_of_transformers():
    def theirs(step, warmup, steps):  # get_linear_schedule_with_warmup, step from 0
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (steps - step) / max(1, steps - warmup))

    for warmup in (0, 4, 10):
        optimizer = create_optimizer(2.0, 10, warmup, lr_schedule="linear")
        for step in range(12):
            optimizer.global_step.assign(step)
            expected = 2.0 * theirs(step, warmup, 10)
            assert optimizer.learning_rate.numpy() == pytest.approx(expected, abs=1e-6)


def test_which_weights_decay():
    layer = "bert/encoder/layer_0/output"
    assert all(map(decayed, [f"{layer}/dense/kernel", "output_weights", "bert/embeddings/x"]))
    for name in (f"{layer}/dense/bias", f"{layer}/LayerNorm/gamma", "output_bias", "layer_norm/x"):
        assert not decayed(name)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_shows_and_changes_nothing(bad):
    optimizer = create_optimizer(0.1, 10, 0)
    kernel, bias = tf.Variable([1.0, 2.0], name="kernel"), tf.Variable([3.0], name="bias")
    optimizer.apply_gradients([(tf.constant([0.1, 0.2]), kernel), (tf.constant([0.1]), bias)])
    state = [kernel, bias, *optimizer.slots.values()]
    before = [v.numpy() for v in state]
    norm = optimizer.apply_gradients(
        [(tf.constant([bad, 0.0]), kernel), (tf.constant([0.1]), bias)]
    )
    assert not np.isfinite(norm)
    for variable, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_gradient_of_zero_is_no_division_by_zero():
    optimizer = create_optimizer(0.1, 10, 0)
    bias = tf.Variable([3.0], name="bias")
    assert optimizer.apply_gradients([(tf.constant([0.0]), bias)]).numpy() == 0
    assert bias.numpy() == 3.0


def test_slots_are_made_once_and_a_gradient_of_none_is_skipped():
    optimizer = create_optimizer(0.1, 10, 0)
    used = keras.Variable([1.0], name="output_weights")
    unused = keras.Variable([1.0], name="output_bias")
    optimizer.build([used, unused])
    slots = dict(optimizer.slots)
    assert list(slots) == [
        "output_weights/adam_m",
        "output_weights/adam_v",
        "output_bias/adam_m",
        "output_bias/adam_v",
    ]
    optimizer.apply_gradients([(tf.constant([1.0]), used), (None, unused)])
    assert all(optimizer.slots[name] is variable for name, variable in slots.items())
    assert used.numpy() != 1.0 and unused.numpy() == 1.0
    assert slots["output_weights/adam_m"].numpy() == pytest.approx(0.1)
    assert slots["output_bias/adam_m"].numpy() == 0.0


def test_a_model_in_bfloat16_is_updated_in_float32():
    layer = keras.layers.Dense(1, dtype="mixed_bfloat16", name="output_weights")
    layer.build([None, 1])
    layer.kernel.assign([[1.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.ones([1, 1])))
    gradient = tape.gradient(loss, layer.kernel.value)
    create_optimizer(1e-4, 1000, 0).apply_gradients([(gradient, layer.kernel)])
    # Less than bfloat16 can tell from 1: 1 - 1e-4 * 0.999 * (0.1 / sqrt(0.001) + 0.01).
    np.testing.assert_allclose(layer.kernel, [[1 - 0.999e-4 * (0.1 / 0.001**0.5 + 0.01)]], 1e-7)


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="no optimizer is called 'adam'; choose one of"):
        create_optimizer(0.1, 10, 0, name="adam")
    with pytest.raises(ValueError, match="lr_schedule='cosine'; choose one of"):
        create_optimizer(0.1, 10, 0, lr_schedule="cosine")
    with pytest.raises(ValueError, match="num_train_steps=0"):
        create_optimizer(0.1, 0, 0)
    twins = [tf.Variable(0.0, name="w"), tf.Variable(0.0, name="w")]
    with pytest.raises(ValueError, match="2 variables are called 'w'"):
        create_optimizer(0.1, 10, 0).build(twins)
    with pytest.raises(ValueError, match="no variable has a gradient"):
        create_optimizer(0.1, 10, 0).apply_gradients([(None, twins[0])])


TWO_REPLICAS = """
    import keras, numpy as np, tensorflow as tf
    from bert_tf.optimization import create_optimizer

    cpu, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    def train(strategy):
        with strategy.scope():
            kernel = keras.Variable(np.eye(3, 2, dtype="float32"), name="output_weights")
            table = tf.Variable(tf.ones([4, 2]), name="word_embeddings")
            optimizer = create_optimizer(0.1, 5, 2)
            optimizer.build([kernel, table])
        replicas = strategy.num_replicas_in_sync

        def replica_step(x, ids):  # this replica's share of two examples
            context = tf.distribute.get_replica_context()
            i = context.replica_id_in_sync_group
            size = 2 // replicas
            x, ids = x[i * size : (i + 1) * size], ids[i * size : (i + 1) * size]
            with tf.GradientTape() as tape:
                y = tf.matmul(x, tf.convert_to_tensor(kernel)) + tf.gather(table, ids)
                loss = tf.reduce_sum(y**2)
            gradients = tape.gradient(loss, [kernel.value, table])
            if replicas > 1:
                gradients = context.all_reduce("SUM", gradients)
            return optimizer.apply_gradients(zip(gradients, [kernel, table]))

        step = tf.function(lambda x, ids: strategy.run(replica_step, args=(x, ids)))
        norms = []
        for seed in range(4):
            x = tf.random.stateless_normal([2, 3], [seed, 0])
            norms += strategy.experimental_local_results(step(x, tf.constant([2, seed])))
        state = [kernel.value, table, optimizer.global_step, *optimizer.slots.values()]
        copies = [strategy.experimental_local_results(variable) for variable in state]
        return norms, [[copy.numpy() for copy in variable] for variable in copies]

    one_norms, one = train(tf.distribute.get_strategy())
    two_norms, two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    np.testing.assert_allclose(two_norms[0::2], one_norms, rtol=1e-6)
    np.testing.assert_array_equal(two_norms[0::2], two_norms[1::2])
    assert one[2][0] == 4
    for (expected,), (first, second) in zip(one, two, strict=True):
        np.testing.assert_allclose(first, expected, rtol=2e-6, atol=1e-7)
        np.testing.assert_array_equal(first, second)

    optimizer = create_optimizer(0.1, 5, 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        try:
            optimizer.build([tf.Variable(0.0, name="w")])
        except ValueError as error:
            assert "inside strategy.scope()" in str(error)
            print("two replicas make one step")
"""


def test_two_replicas_make_the_step_of_one():
    # A process of its own: logical devices are set before TensorFlow starts.
    command = [sys.executable, "-c", textwrap.dedent(TWO_REPLICAS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("two replicas make one step")


def numpy_step(rule, weight, m, v, gradient, rate, step, decay):
    """One step of AdamW or LAMB as their papers write them."""
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6) + decay * weight
    ratio = 1.0
    if rule == "lamb" and decay:
        ratio = np.linalg.norm(weight) / np.linalg.norm(update)
    return weight - rate * ratio * update, m, v


@pytest.mark.parametrize("rule", ["adamw_bias_corrected", "lamb"])
def test_other_rules_are_their_papers(golden, rule):
    """A kernel, which decays, and a bias, which does not, over six steps: to 1e-6."""
    names = ["output_weights", "output_bias"]
    optimizer = create_optimizer(1e-2, 6, 0, rule)
    variables = {name: tf.Variable(golden[f"init/{name}"], name=name) for name in names}
    expected = {name: (golden[f"init/{name}"].astype(np.float64), 0.0, 0.0) for name in names}
    for i in range(6):
        gradients = {name: golden[f"grad/{name}"][i].astype(np.float64) for name in names}
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        rate = 1e-2 * (1 - (i + 1) / 6)
        for name, gradient in gradients.items():
            decay = 0.01 if name == "output_weights" else 0.0
            gradient = gradient / max(1.0, norm)
            expected[name] = numpy_step(rule, *expected[name], gradient, rate, i + 1, decay)
        optimizer.apply_gradients(
            [(tf.constant(gradients[name], tf.float32), variables[name]) for name in names]
        )
        for name in names:
            np.testing.assert_allclose(variables[name], expected[name][0], rtol=0, atol=1e-6)
    prefix = "lamb" if rule == "lamb" else "adam"
    assert set(optimizer.slots) == {f"{name}/{prefix}_{x}" for name in names for x in "mv"}
