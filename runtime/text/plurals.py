"""English plurals and their singulars, by rule and by table.

The endings are those of Quirk et al., "A Comprehensive Grammar of the English Language", 5.78 to 5.100.
"""

from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PAIRS = _words(
    "man/men woman/women fireman/firemen fisherman/fishermen gentleman/gentlemen policeman/policemen postman/postmen "
    "salesman/salesmen snowman/snowmen sportsman/sportsmen workman/workmen knife/knives life/lives wife/wives "
    "calf/calves elf/elves half/halves hoof/hooves leaf/leaves loaf/loaves scarf/scarves shelf/shelves "
    "bookshelf/bookshelves thief/thieves wolf/wolves mouse/mice louse/lice goose/geese foot/feet tooth/teeth ox/oxen "
    "child/children grandchild/grandchildren person/people die/dice penny/pence cactus/cacti fungus/fungi "
    "hippopotamus/hippopotami octopus/octopi bus/buses lens/lenses gas/gases iris/irises walrus/walruses "
    "virus/viruses quiz/quizzes criterion/criteria matrix/matrices vertex/vertices axis/axes passerby/passersby"
)
_IRREGULAR = dict(pair.split("/") for pair in _PAIRS)  # singular: plural
_SINGULARS = {plural: word for word, plural in _IRREGULAR.items()}
PAIRED = _words(
    "binoculars eyeglasses glasses goggles headphones jeans leggings pants pajamas pliers scissors shorts sunglasses "
    "tights tongs trousers tweezers"
)  # a pair of them is one
_ALIKE = (PAIRED - {"glasses"}) | _words(
    "cactus chess dress glass grass tennis bus gas lens iris christmas canvas atlas pancreas series species news "
    "gymnastics mathematics physics dominoes billiards overalls works its this thus yes was has does always perhaps "
    "whereas besides upstairs downstairs outdoors indoors sideways towards across"
)  # no plurals, though they end in s
_SAME = _words(
    "sheep fish deer shrimp goldfish swordfish starfish jellyfish aircraft hovercraft spacecraft moose bison salmon "
    "trout squid swine cattle reindeer cod tuna offspring elk"
)  # several are called as one is
_ONLY_S = _words(
    "brownies canoes cookies hoodies movies shoes horseshoes toes zombies selfies smoothies birdies doggies"
)  # their singular lacks but the s


@lru_cache(4096)
def singular(word: str) -> str:
    """A plural's singular, in the word's case; any other word as it is."""
    lower = word.lower()
    if (known := _SINGULARS.get(lower)) is not None:
        return known.capitalize() if word[:1].isupper() else known
    if not is_plural(word) or lower in _SAME:
        return word
    if lower in _ONLY_S or lower.endswith("ouses"):
        return word[:-1]
    if lower.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if lower.endswith(("ches", "shes", "sses", "xes", "zzes", "oes", "uses")) else word[:-1]


@lru_cache(4096)
def is_plural(word: str) -> bool:
    """Whether a noun is a plural: "fish" is not, though it may be several."""
    lower = word.lower()
    if lower in _SINGULARS:
        return True
    return len(word) > 2 and lower.endswith("s") and not lower.endswith(("ss", "us", "is")) and lower not in _ALIKE


def may_be_several(word: str) -> bool:
    """Whether a noun can follow "two"."""
    return is_plural(word) or word.lower() in _SAME


def plurals(word: str) -> set[str]:
    """What a noun in lower case can be called where it is several: its own plural, and those that people make."""
    found = {f"{word}s", f"{word}es", _IRREGULAR.get(word, f"{word}s")}
    return found | {f"{word[:-1]}ies"} if word.endswith("y") else found
