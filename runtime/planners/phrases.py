"""Plain English to noun phrases and the marks between them.

No list of nouns is known. What stands between an article or a number and the next relation, conjunction, verb or comma
is taken for an object. Verbs are told by a list of the irregular ones, by their endings, and by agreement: what follows
a singular noun and ends in s, or follows a plural one, is none of its words.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runtime.planners.counts import COUNT, count_of, is_vague
from runtime.planners.lexicon import (
    ABSTRACT,
    ADJECTIVES,
    AMOUNTS,
    ARTICLES,
    BACKDROPS,
    BASES,
    CLOTHES,
    COLORS,
    COVERS,
    ED_NOUNS,
    EMPTY,
    FRAMES,
    GROUPS,
    ING_MODIFIERS,
    ING_NOUNS,
    LAMPS,
    LIGHTS,
    LY_WORDS,
    MEDIA,
    MIRRORS,
    MORE_ADJECTIVES,
    ONE,
    PARTS,
    PLACES_OF,
    POINTING,
    SCENERY,
    SINGLE,
    SURFACES,
    VERBS,
    VIEWS,
    WITH_PARTICLES,
)
from runtime.planners.vocabulary import BARE_PLURAL, FLOCK, LONGEST_MARK, MARKS, Mark, Words
from runtime.text.plurals import PAIRED, is_plural, may_be_several

# What a noun phrase is to what was said before it: something is in a container, on a host, has a possession, ...
Role = Literal["subject", "owner", "possession", "container", "host", "neighbour", "object"]


@dataclass(frozen=True)
class Noun:
    """A noun phrase as the prompt has it: "two red balls" is ("red", "balls"), 2 of them."""

    words: Words
    count: int
    article: Words = ()
    is_named: bool = True  # False: no article and no number
    is_open: bool = False  # the number: "a few", or a bare plural
    is_same: bool = False  # in number, as what came before

    @property
    def head(self) -> int:
        """The index of its noun: the last word, or the last before "of"."""
        return self.words.index("of") - 1 if "of" in self.words[1:] else len(self.words) - 1

    @property
    def name(self) -> str:
        """Its noun, in lower case."""
        return self.words[self.head].lower()

    @property
    def points(self) -> bool:
        """Whether it is a pronoun."""
        return self.words[0].lower() in POINTING

    def is_scenery(self, role: Role) -> bool:
        """Whether it fills the picture rather than stands in it, or is no thing at all."""
        if self.points:
            return False
        before = [word.lower() for word in self.words[: self.head]]
        if self.name in SCENERY | VIEWS or (self.name in LIGHTS and LAMPS.isdisjoint(before)):
            return True
        if self.name in AMOUNTS and self.words[-1].lower() in SCENERY | BACKDROPS:
            return True
        if not self.is_named and not ABSTRACT.isdisjoint(word.lower() for word in self.words):
            return True
        if self.name in PARTS and not any(word.endswith(("'s", "\u2019s")) for word in before):
            return role not in ("subject", "owner") or self.article in OWNED
        if role == "owner":
            return self.name in SURFACES - MIRRORS
        return role != "subject" and self._is_behind(role, before)

    def _is_behind(self, role: Role, before: Sequence[str]) -> bool:
        """Whether it is a surface, a frame or a background to other things."""
        if self.name in FRAMES and self.article != ("a",):
            return True
        if self.name in SURFACES and role in ("container", "host", "neighbour"):
            return all(word in _PLAIN or _describes(word) for word in before)
        if self.name in (COVERS if role == "possession" else MIRRORS | CLOTHES if role == "container" else ()):
            return True
        return self.name in BACKDROPS and (not self.is_named or self.is_open or "the" in self.article)


_PLAIN = ADJECTIVES | SCENERY | SURFACES | BACKDROPS | {"tree"}  # of a surface that is no part of a thing: "car window"
OWNED = (("its",), ("it's",), ("his",), ("her",), ("their",))
Item = Noun | Mark
SAME = re.compile(r"(?:the|an?)\s+(?:equal|same|identical)\s+number\s+of", re.IGNORECASE)
TOKEN = re.compile(rf"{SAME.pattern}|close\s+up\b|{COUNT}|\w+(?:['\u2019-]\w+)*|[^\w\s]", re.IGNORECASE)


_QUOTED = re.compile(r"(?<=\w)[\s,:]+[\"\u201c][^\"\u201c\u201d]*[\"\u201d]")  # what a sign or a title says
_THROUGH = re.compile(
    r"\b(view|shot|photo|picture)\s+(?:through|from|across)\s+(?:the|an?)\s+\w+\s+of\b", re.IGNORECASE
)


def split(prompt: str) -> list[Item]:
    """The prompt's noun phrases, and the marks between them."""
    return _Splitter(TOKEN.findall(_THROUGH.sub(r"\1 of", _QUOTED.sub(" ", prompt)))).split()


class _Splitter:
    """Goes through a prompt's tokens once."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = ["close-up" if re.fullmatch(r"close\s+up", token, re.IGNORECASE) else token for token in tokens]
        self.lower = [token.lower() for token in self.tokens]
        self.start = 0  # of the present noun phrase

    def split(self) -> list[Item]:
        items: list[Item] = []
        i = 0
        while i < len(self.tokens):
            mark, length = self._mark(i)
            if mark is not None or self._starts_noun(i):
                items += noun(self.tokens[self.start : i])
                self.start = i + length
            if mark is not None:
                items.append(mark)
            i += length or 1
        return items + noun(self.tokens[self.start :])

    def _mark(self, i: int) -> tuple[Mark | None, int]:
        """The mark at a token, and its number of tokens: none, and 0, inside a noun phrase."""
        mark, length = mark_at(self.lower, i)
        if mark in ("joins", "comma") and self._is_between_adjectives(i, length):
            return None, 0
        if mark is None and self._is_verb(i):
            return "breaks", 1
        if mark == "breaks" and self.lower[i] == "right" and self._has_only(self.start, i, _determines):
            return None, 0  # "the right shoe"
        if mark == "skips" and self.lower[i] in ("up", "down", "off", "out") and self._is_described(i):
            return None, 0  # "a broken down car"
        if self.lower[i : i + 2] == ["upside", "down"] and self._names_more(i + 2):
            return None, 0  # "a plum upside down cake"
        if mark == "skips" and self.lower[i - 1 : i + 1] == ["upside", "down"] and self._names_more(i + 1):
            return None, 0
        return mark, length

    def _names_more(self, i: int) -> bool:
        """Whether the present phrase goes on there with a word that is no verb."""
        return i > self.start + 1 and self._is_plain(i) and not self.lower[i].endswith("ing")

    def _is_described(self, i: int) -> bool:
        """Whether a word follows others that but describe a noun to come."""
        described = self._has_only(self.start, i - 1, _describes) and (
            _describes(self.lower[i - 1]) or self.lower[i - 1] in WITH_PARTICLES
        )
        return i > self.start and described and self._is_plain(i + 1)

    def _starts_noun(self, i: int) -> bool:
        """Whether an article or a number ends the phrase before it: not in "the two dogs" or "a bowl of the soup"."""
        if not _determines(self.lower[i]) or self.start == i or self.lower[i - 1] == "of":
            return False
        if self.lower[i] == "the" and not _describes(self.lower[i - 1]):
            return False  # "Thomas the Tank Engine"
        return not self._has_only(self.start, i, _determines)

    def _is_between_adjectives(self, i: int, length: int) -> bool:
        """As in "a black and white cat" and "the sharp, shiny blade"; not in "an orange and a red ball"."""
        if length != 1 or self.lower[i] not in ("and", ",", "&", "or") or i == self.start or i + 1 >= len(self.lower):
            return False
        after = i + 2 if self.lower[i + 1] == "and" else i + 1
        words = self.lower[self.start : i]
        described = all(_determines(word) or _is_adjective(word) or word in ("and", ",") for word in words)
        return described and _is_adjective(words[-1]) and self._is_adjective_of_more(after)

    def _is_adjective_of_more(self, i: int) -> bool:
        return (
            i + 1 < len(self.lower)
            and _is_adjective(self.lower[i])
            and (self._is_plain(i + 1) or (i + 2 < len(self.lower) and self.lower[i + 1] in ("and", ",")))
        )

    def _is_verb(self, i: int) -> bool:
        word, before, is_first = self.lower[i], self.lower[self.start : i], i == 0
        has_noun = not all(map(_describes, _after_of(before)))
        goes_on = self._is_plain(i + 1)  # a noun may follow
        if before and before[-1] == "of":
            return False
        if word.endswith("ing") and len(word) > 4 and word not in ING_NOUNS:
            if goes_on and (word in ING_MODIFIERS or not has_noun):
                return not before and not is_first and word not in ING_MODIFIERS
            return (bool(before) and before[-1] not in ARTICLES) or (not before and not is_first)
        if word in VERBS and not word.endswith("ed"):
            return has_noun or not goes_on or not before
        if word.endswith("ly") and len(word) > 4 and word not in LY_WORDS:
            return True
        if word.endswith("ed") and len(word) > 4 and word not in ED_NOUNS and not word.endswith(("colored", "eed")):
            if has_noun:
                of_one = self._is_of_one(i) and goes_on and is_plural(self.lower[i + 1]) and not self._is_plain(i + 2)
                return not goes_on or may_be_several(before[-1]) or of_one  # "a bird crossed paths"
            return not goes_on and word not in ADJECTIVES
        if not has_noun:
            return False
        if word in BASES and may_be_several(before[-1]):
            return True
        return self._is_of_one(i) and is_plural(word) and not goes_on and i + 1 < len(self.lower)

    def _is_of_one(self, i: int) -> bool:
        """Whether the present phrase begins with "a", or what follows its "of" does."""
        first = _after_of(self.lower[self.start : i])[0]
        return first in ONE or count_of(first) == 1

    def _has_only(self, start: int, end: int, test: Callable[[str], bool]) -> bool:
        return all(map(test, self.lower[start:end]))

    def _is_plain(self, i: int) -> bool:
        """Whether there is a word that may be a noun or describe one."""
        if i >= len(self.lower) or not self.lower[i][0].isalpha() or _determines(self.lower[i]):
            return False
        word = self.lower[i]
        is_adverb = word.endswith("ly") and len(word) > 4 and word not in LY_WORDS
        return (
            mark_at(self.lower, i)[0] is None and not is_adverb and word != "of" and word not in VERBS - _USED_OF_NOUNS
        )


def _after_of(words: Sequence[str]) -> Sequence[str]:
    """What follows the last "of", or all."""
    return words[len(words) - words[::-1].index("of") :] if "of" in words else words


_USED_OF_NOUNS = {word for word in VERBS if word.endswith(("ed", "ing", "en"))}


def mark_at(lower: Sequence[str], i: int) -> tuple[Mark | None, int]:
    """The longest mark there, and its number of tokens; quotes and brackets are none, other punctuation is a comma."""
    words = tuple(lower[i : i + LONGEST_MARK])
    for length in range(len(words), 0, -1):
        if words[:length] in MARKS:
            return MARKS[words[:length]], length
    return (None, 0) if re.match(r"[\w'\"()\[\]{}\u2018-\u201f*_`]", lower[i]) else ("comma", 1)


def noun(tokens: Sequence[str]) -> list[Noun]:
    """The noun phrase of these words; none where they name no thing."""
    kept = [token for token in tokens if re.match(r"\w", token)]
    flock = False
    while (inner := _meant(kept)) is not None:
        flock = flock or kept[kept.index("of") - 1].lower() in GROUPS
        kept = inner
    found = _determined(kept)
    if found is None or not _names(found):
        return []
    if found.points:
        return [replace(found, words=found.words[:1])]
    found = _cut_after_plural(found)
    if found.is_same or (found.is_named and not found.is_open and not _may_be_many(found)):
        return [found]
    return [_counted(found, flock)]


def _counted(found: Noun, flock: bool) -> Noun:
    """With the number of a bare plural, or of a group of something."""
    if found.is_open or ONE.intersection(map(str.lower, found.article)) or not is_plural(found.words[found.head]):
        return found
    return replace(found, count=FLOCK if flock else BARE_PLURAL, is_open=True)


def _may_be_many(found: Noun) -> bool:
    """Whether it has an article, and no number."""
    return bool(found.article) and found.count == 1


def _meant(tokens: Sequence[str]) -> list[str] | None:
    """What is meant by "a photo of a cat" or "a herd of cows"; None of a phrase that says it itself."""
    lower = [token.lower() for token in tokens]
    if "of" not in lower[1:-1]:
        return None
    of = lower.index("of", 1)
    if lower[of - 1] in MEDIA | VIEWS | GROUPS | PLACES_OF:
        return list(tokens[of + 1 :])
    return None


def _determined(tokens: Sequence[str]) -> Noun | None:
    """Article, number and the other words."""
    article: Words = ()
    rest = tuple(tokens)
    count: int | None = None
    is_open = is_same = False
    while rest and count is None and not is_same:
        first = rest[0].lower()
        if SAME.fullmatch(first):
            is_same, rest = True, rest[1:]
        elif (number := count_of(first)) is not None:
            if not SINGLE.isdisjoint(article):
                break  # "a two headed dragon" is one
            count, is_open = 1 if _is_pair(first, rest[1:]) else number, is_vague(first)
            rest = rest[1:]
        elif first in ARTICLES and len(rest) > 1:
            article, rest = (*article, first), rest[1:]
        else:
            break
    if not rest:
        return None
    named = bool(article) or count is not None or is_same
    return Noun(rest, 1 if count is None else count, () if count is not None else article[-1:], named, is_open, is_same)


def _cut_after_plural(found: Noun) -> Noun:
    """Of several things the words to their plural: what follows is a verb, as in "two birds fly"."""
    if found.count < 2 and not found.is_same and found.article[-1:] not in (("these",), ("those",)):
        return found
    for i, word in enumerate(found.words[:-1]):
        following = found.words[i + 1].lower()
        if following == "of":
            return found
        if may_be_several(word) and word.lower() not in ADJECTIVES and not is_plural(following):
            return replace(found, words=found.words[: i + 1])
    return found


def _names(found: Noun) -> bool:
    """Whether a thing is named: not by "something green", nor by "black" alone."""
    words = [word.lower() for word in found.words]
    if words[0] in POINTING:
        return True
    if all(map(_determines, words)):
        return False
    if words[0] in EMPTY and (not found.is_named or len(words) == 1):
        return False
    described = [word for word in words if not (word in ADJECTIVES or word in ("and", "or"))]
    return bool(described) or (found.is_named and not COLORS.isdisjoint(words[-1:])) or words == ["orange"]


def _is_pair(count: str, words: Words) -> bool:
    return count == "a pair of" and not PAIRED.isdisjoint(map(str.lower, words))


def _determines(word: str) -> bool:
    return word in ARTICLES or word in POINTING or count_of(word) is not None or SAME.fullmatch(word) is not None


def _is_adjective(word: str) -> bool:
    return word in ADJECTIVES or MORE_ADJECTIVES.match(word) is not None


def _describes(word: str) -> bool:
    """Whether a word stands before a noun rather than is one."""
    if _determines(word) or _is_adjective(word) or word in ("and", ",", "or"):
        return True
    return word.endswith(("ed", "ing")) and word not in ED_NOUNS | ING_NOUNS
