"""Maps whose lift, pointing game and AUC were counted by hand."""

import numpy as np
import pytest

from benchmarks.study.maps import auc, inside, lift, pointing

BOX = np.zeros((1, 16))
BOX[0, :4] = 1  # 4 of 16 cells: a quarter of the picture


def attention(within: float, outside: float) -> np.ndarray:
    return np.where(BOX > 0, within, outside)


def test_attention_that_is_everywhere_alike_knows_nothing():
    flat = attention(1, 1)
    assert lift(flat, BOX) == 1
    assert auc(flat, BOX) == 0.5
    assert pointing(flat, BOX) == 0.25  # any of the 16 cells may be pointed at


def test_three_times_as_much_inside():
    peaked = attention(3, 1)  # 12 of 24 inside a quarter of the picture
    assert lift(peaked, BOX) == 2
    assert auc(peaked, BOX) == 1
    assert pointing(peaked, BOX) == 1


def test_attention_outside_alone():
    astray = attention(0, 1)
    assert lift(astray, BOX) == 0
    assert auc(astray, BOX) == 0
    assert pointing(astray, BOX) == 0


def test_pairs_of_cells_counted_one_by_one():
    """Inside 1 and 5, outside 2, 5 and 0: of six pairs three are right and one is a tie."""
    assert auc(np.array([[1.0, 5, 2, 5, 0]]), np.array([[1.0, 1, 0, 0, 0]])) == pytest.approx(3.5 / 6)


def test_a_cell_that_is_covered_by_half_counts_by_half():
    masks = np.zeros((1, 16))
    masks[0, :2] = 0.5  # a sixteenth of the picture
    looking = np.zeros((1, 16))
    looking[0, 0] = 1  # half of it inside
    assert lift(looking, masks) == 8
    assert pointing(looking, masks) == 1


def test_of_a_tiny_region_the_cells_that_it_covers_most_are_inside():
    masks = np.array([[0.1, 0.2, 0.0, 0.2]])
    assert inside(masks).tolist() == [[False, True, False, True]]


def test_a_region_that_covers_everything_has_no_auc():
    assert np.isnan(auc(np.ones((1, 4)), np.ones((1, 4))))[0]


def test_regions_are_measured_each_on_its_own():
    other = np.roll(BOX, 8)
    found = lift(np.vstack([attention(3, 1)] * 2), np.vstack([BOX, other]))
    assert found.tolist() == [2, pytest.approx(4 / 24 * 4)]
