"""Rounded float32 numbers as JSON: to the character what Python's `round` and `json` make."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bert_tf.json_numbers import rounded_rows

FLOATS = st.one_of(st.floats(width=32), st.floats(-2, 2, width=32), st.floats(0, 2**-13, width=32))


def by_value(values):
    return [json.dumps([round(float(x), 6) for x in row])[1:-1] for row in values]


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2), elements=FLOATS))
def test_as_python_rounds_and_writes(values):
    assert rounded_rows(values) == by_value(values)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (-1e-9, "-0.0"),
        (1.0, "1.0"),
        (0.5, "0.5"),
        (1e-6, "1e-06"),
        (-2.5e-5, "-2.5e-05"),
        (1e-4, "0.0001"),
        (1 / 128, "0.007812"),  # 0.0078125 and
        (3 / 128, "0.023438"),  # 0.0234375: ties go to the even digit
        (999.5, "999.5"),
        (1e6, "1000000.0"),
        (2.0**70, "1.1805916207174113e+21"),
        (np.nan, "NaN"),
        (-np.inf, "-Infinity"),
    ],
)
def test_corners(number, text):
    # Alone, and beside numbers that the tables hold.
    assert rounded_rows(np.array([[number]], np.float32)) == [text]
    row = np.array([[0.25, number, -7.0], [number, 1, 1]], np.float32)
    assert rounded_rows(row) == [f"0.25, {text}, -7.0", f"{text}, 1.0, 1.0"]


def test_every_tie():
    """Only numbers m / 128 lie halfway between two of six decimals."""
    ties = (np.arange(-128_000, 128_000) / 128).astype(np.float32).reshape(-1, 1000)
    assert rounded_rows(ties) == by_value(ties)


def test_many_random_numbers():
    random = np.random.default_rng(0)
    sizes = 10 ** random.uniform(-8, 2.5, (300, 1000))
    values = (random.normal(size=sizes.shape) * sizes).astype(np.float32)
    assert rounded_rows(values) == by_value(values)
