"""How far what an engine computes is from what it should."""

import numpy as np


def relative_error(found: np.ndarray, target: np.ndarray) -> float:
    """max |found - target| / max |target| of two arrays of one shape; 0 of zeros that are found, as an untrained
    ControlNet gives them, infinite of others in their place; NaN where either has one."""
    difference, scale = np.abs(found - target).max(), np.abs(target).max()
    if scale == 0:
        return 0.0 if difference == 0 else float("nan" if np.isnan(difference) else "inf")
    return float(difference / scale)
