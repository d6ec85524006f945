"""What tests ask of named arrays."""

import numpy as np


def same(ours, expected):
    """Whether both have the same names and, under each, the same numbers."""
    return ours.keys() == expected.keys() and all(
        np.array_equal(ours[name], expected[name]) for name in expected
    )
