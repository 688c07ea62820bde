"""A planner without a model: reads counts and spatial relations from plain English."""

from collections.abc import Sequence
from dataclasses import replace

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout, Region
from runtime.messages import shown
from runtime.planners import check_prompt
from runtime.planners.comparisons import Comparison, Number, compare, take_comparisons
from runtime.planners.lexicon import PARTS
from runtime.planners.phrases import OWNED, Item, Noun, Role, split
from runtime.planners.placement import place
from runtime.planners.relations import NESTED, Group, Relation, Side
from runtime.planners.vocabulary import At, Relates, Words
from runtime.text.plurals import singular
from runtime.text.tokens import mentions
from runtime.words import MAX_REGIONS


def plan(prompt: str) -> Layout:
    """A layout of boxes inside the image that keeps the prompt's counts and relations.

    Boxes are apart, unless one thing is in, on, or behind another.

    Raises:
        RealCompoError: no object is found, there are more than 30, or relations or counts contradict each other.
    """
    check_prompt(prompt)
    groups, relations = _Reader(prompt).read()
    _check_count(sum(group.count for group in groups), prompt)
    placed = zip(groups, place(groups, relations), strict=True)
    return Layout(
        [Region(group.phrase, box=box, layer=its.layer) for group, its in placed for box in its.boxes], prompt
    )


def _check_count(count: int, prompt: str) -> None:
    if count == 0:
        raise RealCompoError(
            f"no object was found in the prompt {shown(prompt)!r}: say how many of what, as in 'two red balls left of "
            "a cube', or use --planner chat"
        )
    if count > MAX_REGIONS:
        raise RealCompoError(f"the prompt names {count} objects; a layout has room for {MAX_REGIONS}: ask for fewer")


# What the object of a relation is to its subject.
ROLES: dict[str, Role] = {"in": "container", "on": "host", "on top of": "host", "next to": "neighbour"}


class _Reader:
    """Goes through a prompt once, and finds its groups of objects and their relations."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.nouns: list[Noun] = []
        self.groups: list[Group] = []
        self.relations: list[Relation] = []
        self.mentioned: int | None = None  # the group that "it" is
        self.scenery: list[Noun] = []  # what the prompt is about if it has no objects
        self._start_sentence()

    def read(self) -> tuple[list[Group], list[Relation]]:
        text, comparisons = take_comparisons(self.prompt)
        items = split(text)
        for i, item in enumerate(items):
            self._take(item, items[i + 1 :])
        self._drop_awaited()
        if not self.groups:
            for noun in self.scenery[:1]:
                self._group_of(noun)
        for comparison in comparisons:
            self._compare(comparison)
        return self.groups, self.relations

    def _start_sentence(self) -> None:
        self.subject: int | None = None  # the last group that is no relation's object
        self.latest: int | None = None  # the last group of either sort
        self.awaited: list[tuple[Relates, int | None]] = []  # relations without their object, with their subject
        self.fronted: list[tuple[Relates, int]] = []  # relations without their subject, with their object
        self.sides: frozenset[Side] = frozenset()  # of the next group
        self.joined = True  # nothing since the last comma or conjunction
        self.skips = False  # the next noun
        self.follows_verb = False
        self.owner: int | None = None  # what has the groups after "with", which "it" is to them
        self.owned: list[int] | None = None  # those groups; None without "with"
        self.in_scenery = False  # the last noun was no object
        self.last_object: tuple[Relates, int | None] | None = None  # nothing but conjunctions since that relation
        self.linked: Item = "ends"  # what stood before the last noun
        self.listed: list[int] = []  # "a cat, a dog and a bird", of which a relation is said together

    def _take(self, item: Item, rest: Sequence[Item]) -> None:
        if item in ("joins", "comma", "owns", "ends", "mutual"):
            self._drop_awaited()
        match item:
            case Noun():
                self._take_noun(item, is_owner=rest[:1] == ["owns"])
            case Relates():
                self.awaited = [(relates, self._subject_of(item)) for relates in _simpler(item, rest)]
            case At():
                self._take_side(item, rest)
            case "owns":
                elsewhere = self.in_scenery and not self.joined  # "a street with a car driving over it"
                owner = None if elsewhere else self._spoken_of()
                self.owner, self.owned, self.listed = owner, [], []
            case "comma" | "joins":
                self.linked = item
            case "ends":
                self._start_sentence()
        self.skips, self.follows_verb = item == "skips", item == "breaks"
        self.joined = item in ("joins", "comma", "owns", "ends")

    def _drop_awaited(self) -> None:
        """Forget a relation that has no object, such as "inside"; but what has something has it "on top"."""
        if len(self.awaited) == 1 and self.owner is not None and self.awaited[0][1] in (self.owned or ()):
            self._relate_owned(self.awaited[0][0])
        if not (len(self.awaited) == 1 and self.awaited[0][0].kind == "left of"):
            self.awaited = []

    def _take_noun(self, noun: Noun, is_owner: bool) -> None:
        role = self._role(is_owner)
        loose = any(relates.loose for relates, _ in self.awaited) and not noun.is_named and noun.count == 1
        loose = loose or (self.follows_verb and self.subject is not None and not noun.is_named and noun.count == 1)
        if self.awaited and not self.skips and noun.article in OWNED and noun.name in PARTS:
            self._take_pronoun()  # "on its head"
        elif self.skips or loose or noun.count == 0 or noun.is_scenery(role):
            if role in ("subject", "owner") and not self.skips and noun.count:
                self.scenery.append(noun)
            self.awaited = []  # what is on or beside scenery can be anywhere
            self.in_scenery = True
            return
        elif noun.points:
            self._take_pronoun()
        else:
            self._take_thing(self._group_of(noun), noun.is_named or noun.count > 1)
        self.in_scenery = False

    def _role(self, is_owner: bool) -> Role:
        """That of the next noun."""
        if not self.awaited:
            return "possession" if self.owned is not None else "owner" if is_owner else "subject"
        return ROLES.get(self.awaited[0][0].kind, "object")

    def _take_thing(self, i: int, starts: bool) -> None:
        """A new subject, or a relation's object; or one more, as in "next to a hat, book and pen"."""
        if not self.awaited and not starts and self.joined and self.last_object:
            self.awaited = [self.last_object]
        if self.awaited:
            self._take_object(i)
        else:
            self._take_subject(i)

    def _take_pronoun(self) -> None:
        if not self.awaited:
            if self.mentioned is not None:
                self._take_subject(self.mentioned)
            return
        relates, subject = self.awaited[0]
        if self.in_scenery and self.owned is not None:
            self.awaited = []  # "with sand under it"
        elif self.owner is not None and subject in (self.owned or ()):
            self._relate_owned(relates)
            self.awaited = []
        elif self.mentioned is not None and (subject is None or self.mentioned != subject):
            self._take_object(self.mentioned)
        else:
            self.awaited = []

    def _relate_owned(self, relates: Relates) -> None:
        """Of all that something has: "a desk with a keyboard and a cup on it"."""
        assert self.owner is not None
        for i in self.owned or ():
            if not any(relation.first == i or relation.second == i for relation in self.relations):
                self._relate(relates, i, self.owner)
        self.subject = self.latest = self.owner

    def _take_subject(self, i: int) -> None:
        self.groups[i] = replace(self.groups[i], sides=self.groups[i].sides | self.sides)
        for relates, other in self.fronted:
            if other != i:
                self._relate(relates, i, other)
        self.fronted, self.sides, self.last_object = [], frozenset(), None
        if self.owned is not None and i != self.owner:
            self.owned.append(i)
        self.listed.append(i)
        self.subject = self.latest = self.mentioned = i

    def _take_object(self, i: int) -> None:
        relates, subject = self.last_object = self.awaited.pop(0)
        if subject is None or subject == i:  # "to the left of it, a ball"
            self.fronted.append((relates, i))
        else:
            for each in self._said_of(relates, subject):
                self._relate(relates, each, i)
        self.latest = i
        self.listed = []

    def _said_of(self, relates: Relates, subject: int) -> list[int]:
        """The groups that a relation is said of: all of "a cat and a dog on a sofa"."""
        together = self.linked == "joins" and self.listed[-1:] == [subject] and relates.kind != "between"
        return self.listed if together else [subject]

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

    def _subject_of(self, relates: Relates) -> int | None:
        """The group that a relation is said of.

        "A cat on top of a shelf next to a cup": the cup is beside the cat; "a cat under a blanket on a bed": so is it.
        """
        i = self._spoken_of()
        last = self.relations[-1] if self.relations else None
        if last is None or self.subject is None or i == self.subject or self.joined:
            return i
        over = last.kind in ("above", "on top of") and {last.first, last.second} == {i, self.subject}
        beside = relates.kind == "next to" and last.kind == "on top of"
        if over and (beside if last.first == self.subject else relates.kind in NESTED):
            return self.subject
        return i

    def _spoken_of(self) -> int | None:
        """The group before a relation: what the sentence is about after a conjunction, or else the nearest."""
        return self.subject if self.joined and self.subject is not None else self.latest

    def _group_of(self, noun: Noun) -> int:
        """That of an earlier mention, where there is one, or else a new one."""
        if noun.article == ("the",):
            known = self._find(_key(noun.words))
            if known is not None:
                return known
        if noun.is_same and self.latest is not None:
            noun = replace(noun, count=self.groups[self.latest].count)
        self.nouns.append(noun)
        self.groups.append(Group(_phrase(noun, self.prompt), noun.count))
        return len(self.groups) - 1

    def _find(self, core: Words) -> int | None:
        """The first group whose name ends with these words, singular and in lower case."""
        return next((i for i, other in enumerate(self.nouns) if _key(other.words)[-len(core) :] == core), None)

    def _compare(self, comparison: Comparison) -> None:
        found = [self._find(_key(tuple(name.split()))) for name in (comparison.first, comparison.second)]
        pair = [i for i in found if i is not None]
        if len(set(pair)) < 2:
            return
        numbers = [Number(self.groups[i].count, self.nouns[i].is_open) for i in pair]
        counts = compare(comparison.sign, numbers[0], numbers[1], [self.groups[i].phrase for i in pair])
        for i, count in zip(pair, counts, strict=True):
            self.nouns[i] = replace(self.nouns[i], count=count)
            self.groups[i] = replace(self.groups[i], phrase=_phrase(self.nouns[i], self.prompt), count=count)


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


def _key(words: Words) -> Words:
    return tuple(singular(word).lower() for word in words)


def _phrase(noun: Noun, prompt: str) -> str:
    """With its article where it has one; of several objects, the singular where the prompt's tokens match that."""
    if noun.count == 1 and not noun.is_open and not noun.is_same:
        return " ".join(noun.article + noun.words)
    single = " ".join((*noun.words[: noun.head], singular(noun.words[noun.head]), *noun.words[noun.head + 1 :]))
    return single if mentions(prompt, single) else " ".join(noun.words)
