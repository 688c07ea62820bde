"""How much a region's attention map knows of where its object is. 1 is chance for `lift`, 0.5 for `auc`."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.floating]
HALF = 0.5  # a cell that a region covers by at least this much counts as inside


def lift(attention: Floats, masks: Floats) -> Floats:
    """(R,): the share of each region's attention that falls inside it, over the region's share of the picture.

    Args:
        attention: (R,P), of the region's tokens.
        masks: (R,P) in 0..1: how much of each cell the region covers, as the balancer's loss has it.
    """
    share = (attention * masks).sum(-1) / attention.sum(-1)
    return np.asarray(share / masks.mean(-1))


def pointing(attention: Floats, masks: Floats) -> Floats:
    """(R,): the pointing game (Zhang et al., arXiv 1608.00507): 1 if the most attended cell is inside the region, 0 if
    it is not; of several that are attended alike, the share inside."""
    most = attention == attention.max(-1, keepdims=True)
    return np.asarray((most & inside(masks)).sum(-1) / most.sum(-1))


def auc(attention: Floats, masks: Floats) -> Floats:
    """(R,): how often a cell inside is attended more than one outside, ties counted by half: the area under the ROC
    curve. NaN where all or none of the cells are inside."""
    within = inside(masks)
    count, rest = within.sum(-1), (~within).sum(-1)
    ranks = (rankdata(attention, axis=-1) * within).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ranks - count * (count + 1) / 2) / (count * rest))


def inside(masks: Floats) -> NDArray[np.bool_]:
    """(R,P): the cells that count as inside; of a region that covers no cell by half, those that it covers most."""
    return masks >= np.minimum(HALF, masks.max(-1, keepdims=True))


MEASURES = {"lift": lift, "pointing": pointing, "auc": auc}
