"""Counts of one word or several, against numbers counted by hand."""

from collections import Counter
from itertools import product

import pytest

from runtime import RealCompoError
from runtime.planners.counts import count_of
from runtime.planners.offline import plan

PROMPTS = {
    "half a dozen eggs": {"egg": 6},
    "a half dozen eggs": {"egg": 6},
    "half-dozen eggs": {"egg": 6},
    "two dozen eggs": {"egg": 24},
    "Two Dozen Eggs": {"Egg": 24},
    "2 dozen eggs": {"egg": 24},
    "a dozen of eggs": {"egg": 12},
    "one and a half dozen eggs": {"egg": 18},
    "a dozen and a half eggs": {"egg": 18},
    "a couple dozen eggs": {"egg": 24},
    "dozens of eggs": {"egg": 24},
    "1/2 dozen eggs": {"egg": 6},
    "twenty one cats": {"cat": 21},
    "twenty-one cats": {"cat": 21},
    "twenty\u2011one cats": {"cat": 21},
    "twenty one-eyed cats": {"one-eyed cat": 20},
    "two three-legged stools": {"three-legged stool": 2},
    "a two headed dragon": {"a two headed dragon": 1},
    "a 1960 car": {"a 1960 car": 1},
    "2.5 balls": {"ball": 3},
    "two and a half pizzas": {"pizza": 3},
    "half an apple and a pear": {"apple": 1, "a pear": 1},
    "two or three cats": {"cat": 3},
    "2-3 cats": {"cat": 3},
    "two to three cats left of a dog": {"cat": 3, "a dog": 1},
    "at least three cats": {"cat": 3},
    "exactly four red balls": {"red ball": 4},
    "only two cats": {"cat": 2},
    "more than two cats": {"cat": 2},
    "up to five cats": {"cat": 5},
    "all three cats": {"cat": 3},
    "twenty or so cats": {"cat": 20},
    "twenty-odd cats": {"cat": 20},
    "one score balls": {"ball": 20},
    "a baker's dozen rolls": {"roll": 13},
    "1 1/2 dozen eggs": {"egg": 18},
    "3x balls": {"ball": 3},
    "a group of four dogs": {"dog": 4},
    "a trio of cats": {"cat": 3},
    "a pair of shoes": {"shoe": 2},
    "a pair of scissors": {"scissors": 1},
    "two pairs of glasses": {"pair of glasses": 2},
    "a lot of balls": {"ball": 5},
    "a couple on a bench": {"a couple": 1, "a bench": 1},
    "a musical score": {"a musical score": 1},
    "two of the cats": {"cat": 2},
    "the two dozen eggs": {"egg": 24},
    "a bowl of two dozen eggs": {"a bowl of two dozen eggs": 1},
    "twenty one cats and half a dozen dogs": {"cat": 21, "dog": 6},
    "no cats, three dogs": {"dog": 3},
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts(prompt: str) -> None:
    assert Counter(region.phrase for region in plan(prompt).regions) == PROMPTS[prompt]


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("a hundred cats", 100),
        ("one hundred and five cats", 105),
        ("thirty one cats", 31),
        ("a few dozen cats", 36),
        ("1,000 cats", 1000),
        ("hundreds of cats", 200),
        ("two thousand three hundred and four cats", 2304),
        ("twenty cats and a dozen dogs", 32),
    ],
)
def test_more_than_a_layout_holds(prompt: str, count: int) -> None:
    with pytest.raises(RealCompoError, match=f"the prompt names {count} objects; a layout has room for 30"):
        plan(prompt)


SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def test_every_number_below_a_hundred() -> None:
    """Built here from words in order."""
    small, tens = SMALL.split(), TENS.split()
    for number, word in enumerate(small):
        assert count_of(word) == count_of(str(number)) == number
    for (i, ten), unit in product(enumerate(tens, 2), range(10)):
        for gap in (" ", "-"):
            assert count_of(f"{ten}{gap}{small[unit]}" if unit else ten) == 10 * i + unit


@pytest.mark.parametrize("text", ["", "cat", "a", "the", "someone", "tent", "-", "x", "2nd", "4k", "half", "couple of"])
def test_what_is_no_count(text: str) -> None:
    assert count_of(text) is None
