"""A pair's models on a hub, looked at and fetched together, before anything is made of them."""

from collections.abc import Iterator

from export.checkpoints.folders import BASE, open_checkpoint
from export.checkpoints.hub import Say, fetch
from export.checkpoints.source import hub_source, is_weights
from export.checkpoints.variants import Want
from export.pairs import Pair
from export.words import Component
from runtime.words import Model


def fetch_pair(pair: Pair, component: Component, say: Say, tell: Say) -> Pair:
    """The pair with each model that is on a hub named by its commit, and its files in the hub's cache.

    Args:
        component: what is taken of the spatial models.
        say: told what is being done.
        tell: told lines for the user to read.

    Raises:
        RealCompoError: a file cannot be had, see `hub.fetch`.
    """
    models = list(_models(pair, component))
    wants = [Want(role, source, c, pair.fp16_files) for role, model, c in models if (source := hub_source(model))]
    if not wants:
        return pair
    for role, model, components in models:
        if not hub_source(model) and not is_weights(model):
            open_checkpoint(role, model, components, False)  # or else it would be refused after the downloads
    pinned = fetch(wants, say, tell)

    def pin(model: str) -> str:
        source = hub_source(model)
        return str(pinned[source]) if source else model

    return pair.with_models(pin)


def _models(pair: Pair, component: Component) -> Iterator[tuple[Model, str, tuple[Component, ...]]]:
    """Each model of a pair once, and what is needed of it."""
    yield "text_to_image", pair.text_to_image, BASE
    own = [control.model for control in pair.controls] if pair.is_over_base else [pair.spatial]
    yield from (("spatial", model, (component,)) for model in own)
