"""The attention losses and the lift against counting, pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from benchmarks.tabletop.attention import lift, misplaced, token_loss
from benchmarks.tabletop.data import describe, owners_of
from benchmarks.tabletop.models import CONTEXT, make_tokenizer
from benchmarks.tabletop.scenes import CATEGORIES, sample_scene

BOXES = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.6, 0.3, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]]).repeat(2, 1, 1)


def random_maps(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def share_by_counting(attention, boxes):
    """Of one token's attention (64,) over 8x8 pixels, the share whose pixels lie in any of the boxes."""
    inside = 0.0
    for pixel, value in enumerate(attention.tolist()):
        x, y = (pixel % 8 + 0.5) / 8, (pixel // 8 + 0.5) / 8
        inside += value * any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1 in boxes)
    return inside / attention.sum().item()


def test_token_loss_by_counting_pixels():
    owners = torch.zeros(2, 5, 3, dtype=torch.bool)
    owners[0, 1, 0] = owners[0, 2, 1] = owners[0, 4, 0] = owners[0, 4, 1] = True  # the last token speaks of both
    owners[1, 1] = True  # of a row that is not counted
    maps = [random_maps(2, 64, 5, seed=seed) for seed in (0, 1)]
    boxes = BOXES[0].tolist()
    expected = [
        (1 - share_by_counting(attention[0, :, token], [boxes[j] for j in things])) ** 2
        for attention in maps
        for token, things in ((1, [0]), (2, [1]), (4, [0, 1]))
    ]
    found = token_loss(maps, BOXES, owners, torch.tensor([True, False]))
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_token_loss_ends_where_attention_is_inside():
    """It falls along its gradient to next to nothing, and is 0, with a gradient, where no token speaks."""
    owners = torch.zeros(1, 5, 3, dtype=torch.bool)
    owners[0, 2, 0] = True
    scores, counted = torch.zeros(1, 64, 5, requires_grad=True), torch.tensor([True])
    for _ in range(100):
        loss = token_loss([scores.softmax(-1)], BOXES[:1], owners, counted)
        (gradient,) = torch.autograd.grad(loss, scores)
        scores = (scores - 200 * gradient).detach().requires_grad_()
    assert loss < 0.01
    silent = token_loss([scores.softmax(-1)], BOXES[:1], torch.zeros_like(owners), counted)
    silent.backward()
    assert silent == 0 and not scores.grad.any()


def test_misplaced_attention_by_counting_pixels():
    attention = random_maps(1, 64 + 30, 64 + 30)
    total = 0.0
    for pixel in range(64):
        x, y = (pixel % 8 + 0.5) / 8, (pixel // 8 + 0.5) / 8
        over = [j for j, (x0, y0, x1, y1) in enumerate(BOXES[0].tolist()) if x0 < x < x1 and y0 < y < y1]
        seen = attention[0, pixel, 64 + over[0]] if over else 1 - attention[0, pixel, 64:67].sum()
        total -= math.log(seen.item() + 1e-4)
    assert misplaced(attention, BOXES[:1]).item() == pytest.approx(total / 64, rel=1e-5)


def test_lift_of_even_attention_is_1():
    owners = torch.zeros(1, 5, 3, dtype=torch.bool)
    owners[0, 1, 0] = owners[0, 2:4, 1] = True
    found = lift(torch.full((1, 64, 5), 0.2), BOXES[:1], owners)[0]
    assert found[:2].tolist() == pytest.approx([1, 1]) and math.isnan(found[2])


def test_lift_by_counting_pixels():
    owners = torch.zeros(1, 5, 3, dtype=torch.bool)
    owners[0, 1:3, 0] = True
    attention, box = random_maps(1, 64, 5), BOXES[0, 0].tolist()
    share = share_by_counting(attention[0, :, 1] + attention[0, :, 2], [box])
    assert lift(attention, BOXES[:1], owners)[0, 0].item() == pytest.approx(share / 0.25, rel=1e-5)


@pytest.mark.parametrize("index", range(40))
def test_tokens_speak_of_their_objects(index):
    scene = sample_scene(np.random.default_rng(index), CATEGORIES[index % 4])
    tokens, owners = make_tokenizer().encode(scene.caption).tokens, owners_of(scene)
    assert owners.shape == (CONTEXT, 3) and not owners[:, len(scene.things) :].any()
    for j, thing in enumerate(scene.things):
        color, kind = (tokens[i] for i in owners[:, j].nonzero().flatten())
        assert color == thing.color and kind.removesuffix("s") == thing.kind
    owned = {tokens[i] for i in owners.any(-1).nonzero().flatten()}
    assert all(word in owned for word in tokens if word in {thing.color for thing in scene.things})


def test_descriptions_are_of_their_scenes():
    scenes = [sample_scene(np.random.default_rng(i)) for i in range(3)]
    found, tokenizer = describe(scenes), make_tokenizer()
    for i, scene in enumerate(scenes):
        assert found["ids"][i].tolist() == tokenizer.encode(scene.caption).ids
        assert torch.equal(found["owners"][i], owners_of(scene))
        for j, thing in enumerate(scene.things):
            assert found["boxes"][i, j].tolist() == pytest.approx(thing.box)
            assert found["phrases"][i, j].tolist() == tokenizer.encode(thing.phrase).ids
