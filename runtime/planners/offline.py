"""A planner without a model: reads counts and spatial relations from plain English.

It knows no nouns. What stands between an article or a number and the next relation, conjunction, verb or comma is taken
for an object; what follows words such as `in`, `at` or `wearing` is scenery or part of an object, and gets no box.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout, Region
from runtime.planners import check_prompt
from runtime.planners.counts import COUNT, count_of
from runtime.planners.placement import Group, Relation, Side, place
from runtime.planners.vocabulary import (
    ARTICLES,
    BARE_PLURAL,
    LONGEST_MARK,
    MARKS,
    MEDIA,
    ONE,
    PRONOUNS,
    SCENERY,
    SINGLE,
    STYLE,
    At,
    Mark,
    Relates,
    Words,
)
from runtime.text.plurals import PAIRED, is_plural, singular
from runtime.text.tokens import mentions
from runtime.words import MAX_REGIONS


@dataclass(frozen=True)
class Noun:
    """A noun phrase as the prompt has it: "two red balls" is ("red", "balls"), 2 of them."""

    words: Words
    count: int
    article: Words = ()
    is_named: bool = True  # False: no article and no number

    @property
    def head(self) -> int:
        """The index of its noun: the last word, or the last before "of"."""
        return self.words.index("of") - 1 if "of" in self.words[1:] else len(self.words) - 1

    @property
    def is_style(self) -> bool:
        """Whether it is about the picture, such as "highly detailed"."""
        if self.is_named:
            return self.words[self.head].lower() in SCENERY
        return not STYLE.isdisjoint(word.lower() for word in self.words)


Item = Noun | Mark
TOKEN = re.compile(rf"{COUNT}|\w+(?:['\u2019-]\w+)*|[^\w\s]", re.IGNORECASE)  # a count of several words is one


def plan(prompt: str) -> Layout:
    """A layout of boxes inside the image, none upon another, that keeps the prompt's counts and relations.

    Raises:
        RealCompoError: no object is found, there are more than 30, or relations contradict each other.
    """
    check_prompt(prompt)
    groups, relations = _Reader(prompt).read()
    _check_count(sum(group.count for group in groups), prompt)
    placed = zip(groups, place(groups, relations), strict=True)
    return Layout([Region(group.phrase, box=box) for group, boxes in placed for box in boxes], prompt)


def _check_count(count: int, prompt: str) -> None:
    if count == 0:
        raise RealCompoError(
            f"no object was found in the prompt {prompt!r}: say how many of what, as in 'two red balls left of a "
            "cube', or use --planner chat"
        )
    if count > MAX_REGIONS:
        raise RealCompoError(f"the prompt names {count} objects; a layout has room for {MAX_REGIONS}")


def split(prompt: str) -> list[Item]:
    """The prompt's noun phrases, and the marks between them."""
    tokens = _without_medium(TOKEN.findall(prompt))
    items: list[Item] = []
    start = i = 0
    while i < len(tokens):
        mark, length = _mark_at(tokens, i)
        if mark == "breaks" and start < i and all(map(_determines, tokens[start:i])):
            mark, length = None, 0  # "two flying birds"
        if mark is not None or _starts_noun(tokens[start:i], tokens[i]):
            items += _noun(tokens[start:i])
            start = i + length
        if mark is not None:
            items.append(mark)
        i += length or 1
    return items + _noun(tokens[start:])


class _Reader:
    """Goes through a prompt once, and finds its groups of objects and their relations."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.nouns: list[Noun] = []
        self.groups: list[Group] = []
        self.relations: list[Relation] = []
        self.mentioned: int | None = None  # the group that "it" is
        self.skips = False  # the next noun
        self._start_sentence()

    def read(self) -> tuple[list[Group], list[Relation]]:
        items = split(self.prompt)
        for i, item in enumerate(items):
            self._take(item, items[i + 1 :])
        return self.groups, self.relations

    def _start_sentence(self) -> None:
        self.subject: int | None = None  # the last group that is no relation's object
        self.latest: int | None = None  # the last group of either sort
        self.awaited: list[tuple[Relates, int | None]] = []  # relations without their object, with their subject
        self.fronted: list[tuple[Relates, int]] = []  # relations without their subject, with their object
        self.sides: frozenset[Side] = frozenset()  # of the next group
        self.joined = True  # nothing since the last comma or conjunction

    def _take(self, item: Item, rest: Sequence[Item]) -> None:
        match item:
            case Noun():
                self._take_noun(item)
            case Relates():
                self.awaited = [(relates, self._spoken_of()) for relates in _simpler(item, rest)]
            case At():
                self._take_side(item, rest)
            case "skips":
                self.skips = True
            case "ends":
                self._start_sentence()
        self.joined = item in ("joins", "comma", "ends")

    def _take_noun(self, noun: Noun) -> None:
        i = None if self.skips or noun.count == 0 or noun.is_style else self._group_of(noun)
        self.skips = False
        if i is None:
            self.awaited = []  # scenery: what is on or beside it can be anywhere
        elif self.awaited:
            self._take_object(i)
        else:
            self._take_subject(i)

    def _take_subject(self, i: int) -> None:
        self.groups[i] = replace(self.groups[i], sides=self.groups[i].sides | self.sides)
        for relates, other in self.fronted:
            self._relate(relates, i, other)
        self.fronted, self.sides = [], frozenset()
        self.subject = self.latest = self.mentioned = i

    def _take_object(self, i: int) -> None:
        relates, subject = self.awaited.pop(0)
        if subject is None or subject == i:  # "to the left of it, a ball"
            self.fronted.append((relates, i))
        else:
            self._relate(relates, subject, i)
        self.latest = i

    def _relate(self, relates: Relates, subject: int, other: int) -> None:
        if relates.kind == "between":
            self._relate(Relates("left of"), subject, self._halve(other))
            self._relate(Relates("left of", swapped=True), subject, other)
        else:
            first, second = (other, subject) if relates.swapped else (subject, other)
            self.relations.append(Relation(relates.kind, first, second))

    def _halve(self, i: int) -> int:
        """Take half of a group's objects into a new one: "a cat between two dogs"."""
        group = self.groups[i]
        self.groups[i] = replace(group, count=group.count - group.count // 2)
        self.groups.append(replace(group, count=group.count // 2))
        self.nouns.append(self.nouns[i])
        return len(self.groups) - 1

    def _take_side(self, at: At, rest: Sequence[Item]) -> None:
        """Of the noun that follows in "on the left, a ball", of the one before in "a ball on the left"."""
        following = [item for item in rest[:3] if item not in ("comma", "breaks")]
        i = self._spoken_of()
        if i is None or (self.joined and following and isinstance(following[0], Noun)):
            self.sides = at.sides
        else:
            self.groups[i] = replace(self.groups[i], sides=self.groups[i].sides | at.sides)

    def _spoken_of(self) -> int | None:
        """The group before a relation: what the sentence is about after a conjunction, or else the nearest."""
        return self.subject if self.joined and self.subject is not None else self.latest

    def _group_of(self, noun: Noun) -> int | None:
        """That of an earlier mention, where there is one, or else a new one."""
        if noun.words[0].lower() in PRONOUNS:
            return self.mentioned
        if noun.article == ("the",):
            core = _key(noun)
            known = [i for i, other in enumerate(self.nouns) if _key(other)[-len(core) :] == core]
            if known:
                return known[0]
        self.nouns.append(noun)
        self.groups.append(Group(_phrase(noun, self.prompt), noun.count))
        return len(self.groups) - 1


def _simpler(relates: Relates, rest: Sequence[Item]) -> list[Relates]:
    """What "between" means for the objects that follow: two, several of a kind, or, oddly, one."""
    if relates.kind != "between":
        return [relates]
    match rest:
        case [Noun(), "joins", Noun(), *_]:
            return [Relates("left of", swapped=True), Relates("left of")]
        case [Noun(count=count), *_] if count > 1:
            return [relates]
    return [Relates("next to")]


def _key(noun: Noun) -> Words:
    return tuple(singular(word).lower() for word in noun.words)


def _phrase(noun: Noun, prompt: str) -> str:
    """With its article where it has one; of several objects, the singular where the prompt's tokens match that."""
    if noun.count == 1:
        return " ".join(noun.article + noun.words)
    single = " ".join((*noun.words[: noun.head], singular(noun.words[noun.head]), *noun.words[noun.head + 1 :]))
    return single if mentions(prompt, single) else " ".join(noun.words)


def _without_medium(tokens: list[str]) -> list[str]:
    """Without "a photo of" at the start."""
    for i, token in enumerate(tokens[:6]):
        if _mark_at(tokens, i)[0] is not None:
            break
        if token.lower() in MEDIA and tokens[i + 1 : i + 2] == ["of"]:
            return tokens[i + 2 :]
    return tokens


def _mark_at(tokens: Sequence[str], i: int) -> tuple[Mark | None, int]:
    """The longest mark there, and its number of tokens; any other punctuation is a comma."""
    words = tuple(token.lower() for token in tokens[i : i + LONGEST_MARK])
    for length in range(len(words), 0, -1):
        if words[:length] in MARKS:
            return MARKS[words[:length]], length
    return (None, 0) if re.match(r"\w", tokens[i]) else ("comma", 1)


def _starts_noun(before: Sequence[str], token: str) -> bool:
    """Whether an article or a number ends the noun phrase before it: not in "the two dogs" or "a bowl of the soup"."""
    if not _determines(token) or not before or before[-1].lower() == "of":
        return False
    return not all(map(_determines, before))


def _determines(token: str) -> bool:
    word = token.lower()
    return word in ARTICLES or word in PRONOUNS or count_of(token) is not None


def _noun(tokens: Sequence[str]) -> list[Noun]:
    """The noun phrase of these words; none where they are but an article or a number."""
    article, count, words = _determiner(tokens)
    if not words:
        return []
    noun = Noun(words, count or 1, article, is_named=bool(article) or count is not None)
    several = count is None and not ONE.intersection(map(str.lower, article)) and is_plural(words[noun.head])
    return [replace(noun, count=BARE_PLURAL if several else noun.count if count is None else count)]


def _determiner(tokens: Sequence[str]) -> tuple[Words, int | None, Words]:
    """Article, number and the other words."""
    if not tokens:
        return (), None, ()
    first, rest = tokens[0].lower(), tuple(tokens[1:])
    if (count := count_of(first)) is not None:
        return (), 1 if _is_pair(first, rest) else count, rest
    if rest and first in ARTICLES:
        _, count, words = _determiner(rest)
        if count is None or first in SINGLE:  # "a two headed dragon" is one
            return (first,), None, rest if first in SINGLE else words
        return (), count, words
    return (), None, tuple(tokens)


def _is_pair(count: str, words: Words) -> bool:
    return count == "a pair of" and not PAIRED.isdisjoint(map(str.lower, words))
