"""How many: counts as English writes them, of one word or several, found in a prompt and told in numbers."""

import math
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBERS: dict[str, float] = {
    "zero": 0,
    **{word: n for n, word in enumerate(UNITS + TEENS, 1)},
    **{word: 10 * n for n, word in enumerate(TENS, 2)},
    "fourty": 40,
}
SCALES = {"dozen": 12, "score": 20, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
# Phrases that say how many, without a number that can be taken apart.
PHRASES: dict[str, int] = {
    "no": 0,
    **dict.fromkeys(("half a", "half an"), 1),
    **dict.fromkeys(("a couple of", "a pair of", "a duo of", "both", "all"), 2),
    **dict.fromkeys(("a few", "few", "some", "several", "a trio of", "various"), 3),
    "a quartet of": 4,
    **dict.fromkeys(("many", "numerous", "lots of", "a lot of", "plenty of", "a number of", "a handful of"), 5),
    **dict.fromkeys(("a half dozen", "half a dozen"), 6),
    "a score of": 20,
    "a baker's dozen": 13,
    "a baker's dozen of": 13,
    **{f"{scale}s of": 2 * size for scale, size in SCALES.items()},
}
_OPEN = (
    frozenset(PHRASES)
    - {"no", "half a", "half an", "both", "a couple of", "a pair of", "a duo of", "a trio of"}
    - {
        *("a quartet of", "a half dozen", "half a dozen", "a score of", "a baker's dozen", "a baker's dozen of"),
    }
)
QUALIFIERS = (
    *("at least", "at most", "no more than", "no fewer than", "no less than", "more than", "less than", "fewer than"),
    *("as many as", "up to", "exactly", "precisely", "only", "about", "approximately", "roughly", "nearly", "almost"),
    "all",
)
GROUPS = (
    *("group", "set", "row", "total", "line", "pile", "stack", "bunch", "team", "herd", "flock", "pack", "cluster"),
    *("family", "circle"),
)
OWNERS = ("the", "these", "those", "my", "your", "his", "her", "its", "our", "their")
MOST = 10**6  # more are as many


def _either(words: Iterable[str]) -> str:
    """One of the texts, the longest first, however their words are joined."""
    return f"(?:{'|'.join(_GAP.join(map(re.escape, text.split())) for text in sorted(words, key=len, reverse=True))})"


_GAP = r"(?:\s+|[-\u2010\u2011])"
_DIGITS = r"(?:\d+\s+\d+/\d+|\d*[\u00bc-\u00be]|\d+(?:[.,]\d+)*(?:/\d+)?)"
_SMALL = f"(?:{_either(TENS)}{_GAP}{_either(UNITS)}|{_either(NUMBERS)}|{_DIGITS})"
_SCALE = _either(SCALES.keys() - {"score"})  # which alone is music
_AND_HALF = f"(?:{_GAP}and{_GAP}a{_GAP}half)?"
_TIMES = f"half{_GAP}an?|an?{_GAP}half|half|an?{_GAP}(?:few|couple(?:{_GAP}of)?)|several|an?|{_SMALL}{_AND_HALF}"
_MORE = f"(?:{_GAP}(?:and{_GAP})?{_SMALL}(?:{_GAP}{_SCALE})?){{0,3}}"  # "thousand two hundred and five"
_OF = f"(?:{_GAP}of(?!{_GAP}{_either(OWNERS)}))?"  # "a dozen of eggs"
_SCALED = f"(?:(?:(?:{_TIMES}){_GAP})?{_SCALE}|{_SMALL}{_GAP}score)(?:{_GAP}{_SCALE})?{_MORE}{_AND_HALF}{_OF}"
_CARDINAL = f"(?:{_SCALED}|{_SMALL}{_AND_HALF})"
_TO = r"(?:\s+(?:or|to)\s+|\s*[-\u2012-\u2014]\s*)"
_RANGE = rf"{_CARDINAL}(?:{_TO}{_CARDINAL})?(?:\s+or\s+so|{_GAP}odd|(?<=\d)\s?[x\u00d7])?"
_COUNT = (
    f"(?:{_either(QUALIFIERS)}{_GAP})?(?:a{_GAP}{_either(GROUPS)}{_GAP}of{_GAP}(?={_CARDINAL}))?"
    f"(?:{_RANGE}|{_either(PHRASES)})(?:{_GAP}of{_GAP}{_either(OWNERS)})?"
)
# What follows must not make it part of another word: "twenty one-eyed cats" are twenty.
COUNT = rf"(?<![\w-])(?:{_COUNT})(?![\w\u2019'-])"
_WHOLE = re.compile(_COUNT, re.IGNORECASE)
_BETWEEN = re.compile(r"\s+(?:or|to)\s+|[-\u2012-\u2014]\s*(?=[\d])|\s+[-\u2012-\u2014]\s+")
_NOISE = re.compile(
    rf"^{_either(QUALIFIERS)}{_GAP}|^a{_GAP}{_either(GROUPS)}{_GAP}of{_GAP}(?={_CARDINAL})|"
    rf"{_GAP}of{_GAP}{_either(OWNERS)}$|\s+or\s+so$|{_GAP}odd$|(?<=\d)\s?[x\u00d7]$"
)


@lru_cache(1024)
def count_of(text: str) -> int | None:
    """What a count says, rounded; of a range the last. None of any other text."""
    if not _WHOLE.fullmatch(text):
        return None
    plain = text.lower()
    if plain not in PHRASES:
        while plain != (less := _NOISE.sub("", plain)) and less not in PHRASES:
            plain = less
        plain = less
    words = tuple(re.split(_GAP, _BETWEEN.split(plain)[-1].strip()))
    if (known := PHRASES.get(" ".join(words))) is not None:
        return known
    return max(math.floor(min(_value(words), MOST) + 0.5), 1) if _value(words) else 0


def is_vague(text: str) -> bool:
    """Whether a count leaves open how many: "a few" does."""
    return " ".join(text.lower().split()) in _OPEN


def _value(words: tuple[str, ...]) -> float:
    """The sum of "two hundred and five", half a "dozen" and the like."""
    total = current = 0.0
    scale = 1
    for word in words:
        if word in SCALES:
            scale = SCALES[word]
            current = (current or 1) * scale
        elif word == "half":
            current += scale / 2
        elif (number := _number(word)) is not None:
            if scale > 1:
                total, current, scale = total + current, 0.0, 1
            current += number
    return total + current


_FIRST = {"couple": 2.0, "few": 3.0, "several": 3.0}


def _number(word: str) -> float | None:
    if word[0].isdecimal() or unicodedata.numeric(word[0], None) is not None:
        return _of_digits(word)
    return NUMBERS.get(word, _FIRST.get(word))


def _of_digits(word: str) -> float:
    """Of "12", "1,000", "2.5", "2,5", "1/2" and the like."""
    if not word[-1].isdecimal():
        return float(word[:-1] or 0) + unicodedata.numeric(word[-1])
    above, _, below = re.sub(r"[.,](?=\d{3}(?!\d))", "", word).replace(",", ".").partition("/")
    top = float(above) if above.count(".") < 2 else float(above.split(".")[0])
    return top / float(below) if below.isdecimal() and int(below[:9]) else top
