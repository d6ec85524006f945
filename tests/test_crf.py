"""The CRF against the enumeration of all sequences of tags."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import crf

LABELS = 3


def random_case(seed, rows=4, size=6, scale=1.0, labels=LABELS):
    """Logits, labels, mask and scores; the last row of the mask is empty."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (rows, size, labels)).astype(np.float32)
    tags = rng.integers(0, labels, (rows, size)).astype(np.int32)
    mask = rng.integers(0, 2, (rows, size)).astype(np.int32)
    mask[-1] = 0
    shapes = {"transitions": (labels, labels)}
    scores = {
        name: rng.normal(0, scale, shapes.get(name, labels)).astype(np.float32)
        for name in crf.NAMES
    }
    return logits, tags, mask, scores


def sequence_score(logits, tags, scores):
    """Of one sequence without gaps: [n, L] and n tags, in float64."""
    steps = zip(tags, tags[1:], strict=False)
    return (
        sum(float(row[tag]) for row, tag in zip(logits, tags, strict=True))
        + sum(float(scores["transitions"][a, b]) for a, b in steps)
        + float(scores["start_transitions"][tags[0]])
        + float(scores["end_transitions"][tags[-1]])
    )


def enumerated(logits, tags, mask, scores):
    """Log-likelihood and best labels of every row, from all sequences there are."""
    likelihoods, best = np.zeros(len(logits)), np.zeros_like(tags)
    for number, used in enumerate(mask.astype(bool)):
        if not used.any():
            continue
        every = list(itertools.product(range(logits.shape[2]), repeat=int(used.sum())))
        values = np.array([sequence_score(logits[number, used], s, scores) for s in every])
        own = sequence_score(logits[number, used], tuple(tags[number, used]), scores)
        likelihoods[number] = own - np.logaddexp.reduce(values)
        best[number, used] = every[values.argmax()]
    return likelihoods, best


def compute(logits, tags, mask, scores):
    logits = tf.convert_to_tensor(logits)
    scores = {name: tf.convert_to_tensor(value) for name, value in scores.items()}
    with tf.GradientTape() as tape:
        tape.watch([logits, *scores.values()])
        likelihood = crf.log_likelihood(logits, tags, mask, scores)
        total = tf.reduce_sum(likelihood)
    gradients = tape.gradient(total, [logits, *scores.values()])
    return likelihood, crf.viterbi(logits, mask, scores), gradients


@pytest.mark.parametrize("jit_compile", [False, True])
def test_equals_enumeration(jit_compile):
    function = tf.function(compute, jit_compile=jit_compile, autograph=False)
    for seed in range(5):
        case = random_case(seed)
        likelihood, best, gradients = function(*tf.nest.map_structure(tf.constant, case))
        expected_likelihood, expected_best = enumerated(*case)
        np.testing.assert_allclose(likelihood, expected_likelihood, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(best, expected_best)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.1, 5.0]))
def test_equals_enumeration_in_every_size(seed, labels, size, scale):
    case = random_case(seed, rows=2, size=size, scale=scale, labels=labels)
    case[2][0, :size] |= np.arange(size) == seed % size  # one position at least
    likelihood, best, _ = compute(*case)
    expected_likelihood, expected_best = enumerated(*case)
    np.testing.assert_allclose(likelihood, expected_likelihood, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(best, expected_best)


def test_rows_of_any_length_in_one_graph():
    kinds = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None], tf.int32)]
    for size in (1, 2, 6):
        logits, tags, mask, scores = random_case(size, size=size, labels=3)
        scores = tf.nest.map_structure(tf.constant, scores)
        graph = tf.function(lambda x, mask, scores=scores: crf.viterbi(x, mask, scores), kinds)
        _, expected = enumerated(logits, tags, mask, scores)
        np.testing.assert_array_equal(graph(logits, mask), expected)
    for shape in ((0, 4), (2, 0)):
        nothing = np.zeros(shape, np.int32)
        assert graph(np.zeros((*shape, 3), np.float32), nothing).shape == shape


def test_gradients_are_the_difference_quotients():
    logits, tags, mask, scores = random_case(3)
    gradients = compute(logits, tags, mask, scores)[2]
    arrays = {"logits": logits, **scores}
    for (name, array), gradient in zip(arrays.items(), gradients, strict=True):
        for index in np.random.default_rng(0).choice(array.size, 3):
            values = []
            for change in (1e-2, -1e-2):
                moved = array.copy()
                moved.flat[index] += change
                changed = arrays | {name: moved}
                likelihoods, _ = enumerated(changed["logits"], tags, mask, changed)
                values.append(likelihoods.sum())
            quotient = (values[0] - values[1]) / 2e-2
            assert np.ravel(gradient)[index] == pytest.approx(quotient, abs=1e-3), name


def test_padding_and_gaps_change_nothing():
    logits, tags, _, scores = random_case(7, size=5)
    full = np.ones_like(tags)
    likelihood, best, gradients = compute(logits, tags, full, scores)
    rng = np.random.default_rng(1)
    at = np.sort(rng.choice(12, 5, replace=False))
    wide = rng.normal(size=(4, 12, LABELS)).astype(np.float32) * 100
    wide_tags, wide_mask = rng.integers(0, LABELS, (2, 4, 12)).astype(np.int32)
    wide[:, at], wide_tags[:, at], wide_mask[:] = logits, tags, 0
    wide_mask[:, at] = 1
    wide_likelihood, wide_best, wide_gradients = compute(wide, wide_tags, wide_mask, scores)
    np.testing.assert_allclose(wide_likelihood, likelihood, atol=1e-6)
    np.testing.assert_array_equal(wide_best.numpy()[:, at], best)
    np.testing.assert_array_equal(wide_best.numpy()[wide_mask == 0], 0)
    np.testing.assert_allclose(wide_gradients[0].numpy()[:, at], gradients[0], atol=1e-6)
    assert not wide_gradients[0].numpy()[wide_mask == 0].any()
    for ours, theirs in zip(wide_gradients[1:], gradients[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_empty_row_counts_nothing():
    logits, tags, _, scores = random_case(2)
    likelihood, best, gradients = compute(logits, tags, np.zeros_like(tags), scores)
    assert not likelihood.numpy().any() and not best.numpy().any()
    assert not any(np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_long_rows_and_large_scores_stay_finite(scale):
    logits, tags, mask, scores = random_case(4, rows=2, size=300, scale=scale)
    mask[:] = 1
    function = tf.function(compute, autograph=False)
    likelihood, best, gradients = function(logits, tags, mask, scores)
    assert np.isfinite(likelihood).all() and (likelihood.numpy() <= 0).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    best_likelihood = function(logits, best, mask, scores)[0]
    assert (best_likelihood.numpy() >= likelihood.numpy()).all()


def test_without_transitions_words_are_independent():
    logits, tags, mask, scores = random_case(5)
    zeros = {name: np.zeros_like(value) for name, value in scores.items()}
    likelihood, best, _ = compute(logits, tags, mask, zeros)
    log_probs = np.take_along_axis(tf.nn.log_softmax(logits).numpy(), tags[:, :, None], 2)[:, :, 0]
    np.testing.assert_allclose(likelihood, (log_probs * mask).sum(1), atol=1e-5)
    np.testing.assert_array_equal(best, logits.argmax(-1) * mask)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_no_policy_rounds_the_logits(policy):
    logits = random_case(6)[0]
    layer = crf.CRF(LABELS, dtype=policy)
    outputs = layer(tf.constant(logits))
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    np.testing.assert_array_equal(outputs["logits"], logits)
    again = crf.CRF.from_config(layer.get_config())
    np.testing.assert_array_equal(again(tf.constant(logits))["logits"], logits)


def test_bfloat16_logits_are_summed_in_float32():
    logits, tags, mask, scores = random_case(6)
    rounded = tf.cast(logits, tf.bfloat16)
    exact = compute(tf.cast(rounded, tf.float32), tags, mask, scores)[0]
    np.testing.assert_array_equal(crf.log_likelihood(rounded, tags, mask, scores), exact)
