"""Token indices against positions counted by hand: <start> is 0, and `umbrella` takes two tokens."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from runtime import Layout, RealCompoError, Region
from runtime.text.tokens import PromptEncoder, region_tokens, warn_of_losses
from tests.runtime.bundles import CONTEXT, make_tokenizer

BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> PromptEncoder:
    path = tmp_path_factory.mktemp("text") / "tokenizer.json"
    make_tokenizer().save(str(path))
    return PromptEncoder(path, CONTEXT)


def tokens_of(encoder: PromptEncoder, prompt: str, *phrases: str) -> list[tuple[int, ...]]:
    layout = Layout([Region(phrase, box=BOX) for phrase in phrases])
    return region_tokens(encoder.encode(prompt), layout, CONTEXT)


@pytest.mark.parametrize(
    ("prompt", "phrases", "wanted"),
    [
        ("a red ball and a blue cube", ["a red ball", "a blue cube"], [(2, 3), (6, 7)]),
        ("A Red BALL", ["the red ball"], [(2, 3)]),
        ("red ball", ["a red ball"], [(1, 2)]),
        ("two green cones", ["a green cone", "a green cone"], [(2, 3), (2, 3)]),
        ("a red ball, a red ball", ["a red ball"] * 3, [(2, 3), (6, 7), (6, 7)]),
        ("a red umbrella of a ring", ["umbrella", "ring"], [(3, 4), (7,)]),
        ("two umbrellas and a ball", ["an umbrella", "ball"], [(2, 3, 4), (7,)]),
        ("a red ball left of a ball", ["red ball", "ball"], [(2, 3), (3,)]),
        ("a RED  ball\n,ring", ["red ball", "ring"], [(2, 3), (5,)]),
    ],
)
def test_words_are_matched(
    encoder: PromptEncoder, prompt: str, phrases: list[str], wanted: list[tuple[int, ...]]
) -> None:
    assert tokens_of(encoder, prompt, *phrases) == wanted


# What the authors' template.txt shows a language model: captions, and the position of each object's word
AUTHORS_EXAMPLES = [
    ("A teddy bear sits next to a bird", ["a teddy bear", "a bird"], [3, 8]),
    (
        "The old stuff animal is on an old couch next to a bottle",
        ["an old stuff animal", "an old couch", "a bottle"],
        [4, 9, 13],
    ),
    (
        "A brown teddy bear holding two balloons of different colors",
        ["a brown teddy bear", "a balloon", "a balloon"],
        [4, 7, 7],
    ),
    ("A bee is buzzing around a flower", ["a bee", "a flower"], [2, 7]),
    ("Three cars are parked in front of two houses", ["a car"] * 3 + ["a house"] * 2, [2, 2, 2, 9, 9]),
]


@pytest.mark.parametrize(("caption", "phrases", "positions"), AUTHORS_EXAMPLES)
def test_one_token_is_the_authors(caption: str, phrases: list[str], positions: list[int], tmp_path: Path) -> None:
    """With a token a word, after one that starts the text."""
    words = ["<start>", "<unk>", *dict.fromkeys(caption.split())]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<start>"])
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<start> $A", special_tokens=[("<start>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    prompt = PromptEncoder(tmp_path / "tokenizer.json", 20).encode(caption)
    layout = Layout([Region(phrase, box=BOX) for phrase in phrases])
    assert region_tokens(prompt, layout, 20, one=True) == [(position,) for position in positions]


def test_one_token_leaves_those_that_a_region_names(encoder: PromptEncoder) -> None:
    layout = Layout([Region("red ball", box=BOX), Region("anything", box=BOX, tokens=[1, 4])])
    assert region_tokens(encoder.encode("a red ball"), layout, CONTEXT, one=True) == [(3,), (1, 4)]


def test_phrase_that_the_prompt_lacks(encoder: PromptEncoder) -> None:
    with pytest.raises(RealCompoError, match="'a red ball and a cube' does not contain the region's phrase 'red cube'"):
        tokens_of(encoder, "a red ball and a cube", "red cube")


def test_part_of_a_word_is_no_match(encoder: PromptEncoder) -> None:
    with pytest.raises(RealCompoError, match="does not contain"):
        tokens_of(encoder, "a red ball", "all")


def test_phrase_without_a_word(encoder: PromptEncoder) -> None:
    with pytest.raises(RealCompoError, match="does not contain"):
        tokens_of(encoder, "a red ball", "!?")


def test_tokens_override_the_match(encoder: PromptEncoder) -> None:
    layout = Layout([Region("anything", box=BOX, tokens=[1, 4])])
    assert region_tokens(encoder.encode("a red ball"), layout, CONTEXT) == [(1, 4)]


@pytest.mark.parametrize("tokens", [[], [-1], [CONTEXT]])
def test_tokens_out_of_range(encoder: PromptEncoder, tokens: list[int]) -> None:
    layout = Layout([Region("a ball", box=BOX, tokens=tokens)])
    with pytest.raises(RealCompoError, match=f"out of range; use 0 to {CONTEXT - 1}"):
        region_tokens(encoder.encode("a ball"), layout, CONTEXT)


LONG = "a red ball and a blue cube and a green cone left of a ring"  # 10 words fit between <start> and <end>


def test_long_prompt_is_cut_and_said_so(encoder: PromptEncoder) -> None:
    prompt = encoder.encode(LONG)
    with pytest.warns(UserWarning, match="over 12 tokens long: 'cone left of a ring'"):
        warn_of_losses(prompt)
    assert len(prompt.ids) == CONTEXT
    assert prompt.ids[-1] == make_tokenizer().token_to_id("<end>")


def test_phrase_in_the_part_that_was_cut(encoder: PromptEncoder) -> None:
    assert tokens_of(encoder, LONG, "blue cube") == [(6, 7)]
    with pytest.raises(RealCompoError, match="'a green cone' lies in the end of the prompt that was cut off"):
        tokens_of(encoder, LONG, "a green cone")


def test_unknown_words(encoder: PromptEncoder) -> None:
    with pytest.warns(UserWarning, match="does not know these words: dragon$"):
        warn_of_losses(encoder.encode("a red dragon"))
    assert tokens_of(encoder, "a red dragon", "red dragon") == [(2, 3)]
    with pytest.raises(RealCompoError, match="knows no word of the region's phrase 'a dragon'"):
        tokens_of(encoder, "a red dragon", "a dragon")


def test_short_prompts_are_padded_as_clip_does(encoder: PromptEncoder) -> None:
    end = make_tokenizer().token_to_id("<end>")
    assert encoder.encode("ball").ids[2:] == (end,) * (CONTEXT - 2)


def test_damaged_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RealCompoError, match=r"tokenizer.json is not a tokenizer"):
        PromptEncoder(tmp_path / "tokenizer.json", CONTEXT)
