"""What `serve run runtime.serving.ray:app NAME=VALUE ...` says of its arguments, before anything is started."""

import pytest

from runtime.serving.fleet import Fleet

pytest.importorskip("ray", reason="Ray is not installed: pip install 'realcompo[ray]'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "there is no bundle"),
        ({"bundle": "nowhere"}, "is not a bundle"),
        ({"bundle": "nowhere", "max_batch": "0"}, "max_batch=0 is out of range"),
        ({"bundle": "nowhere", "max_batch": "many"}, "max_batch='many': Input should be a valid integer"),
        ({"bundle": "nowhere", "modes": "surrogate,best"}, "mode 'best' is unknown; use exact, surrogate"),
        ({"bundle": "nowhere", "modes": "surrogate,handover"}, "nowhere is not a bundle"),
        ({"bundle": "nowhere", "colour": "red"}, "colour is no argument; use bundle, "),
        ({"bundle": "nowhere", "time_limit": "soon"}, "time_limit='soon' is no quantity"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, str], message: str) -> None:
    from click import ClickException

    from runtime.serving.ray import app

    with pytest.raises(ClickException) as raised:
        app(arguments)
    assert message in raised.value.message and "\n" not in raised.value.message


def test_a_fleet_by_default() -> None:
    assert (Fleet().min_replicas, Fleet().max_replicas, Fleet().gpus) == (1, None, None)
