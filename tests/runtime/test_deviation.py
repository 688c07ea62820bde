"""How far arrays are apart."""

import math
import warnings

import numpy as np
import pytest

from runtime.bundle.deviation import relative_error

ZEROS, NAN = np.zeros(3), np.array([0, math.nan, 0])


@pytest.mark.parametrize(
    ("found", "target", "error"),
    [
        ([1.0, -4.0], [1.0, -5.0], 0.2),
        (ZEROS, ZEROS, 0.0),
        (ZEROS + 1e-9, ZEROS, math.inf),
        (NAN, ZEROS, math.nan),
        (ZEROS, NAN, math.nan),
        (NAN, np.ones(3), math.nan),
    ],
)
def test_relative_error(found: object, target: object, error: float) -> None:
    with warnings.catch_warnings(action="error"):
        assert relative_error(np.array(found), np.array(target)) == pytest.approx(error, nan_ok=True)
