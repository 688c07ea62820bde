"""Many machines: the same application in replicas on Ray Serve, with a front that loses no request when one dies.

    serve run runtime.serving.ray:app bundle=engines/tabletop min_replicas=2

Needs the extra `realcompo[ray]`. Every machine has the bundle at the same path.
"""

import asyncio
import logging
import time
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import ray
import torch
from click import ClickException
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Message

from runtime import RealCompo, RealCompoError
from runtime.bundle.manifest import read_manifest
from runtime.knobs import knobs_of, make
from runtime.modes import check_modes
from runtime.serving.app import create_app
from runtime.serving.call import Call, answer
from runtime.serving.fleet import Fleet
from runtime.serving.front import Crowded, Front, Lost
from runtime.serving.guard import Guard, read_keys
from runtime.serving.metrics import FrontMetrics, gather
from runtime.serving.service import Service
from runtime.serving.settings import Settings

FRONTS_REQUESTS = 1000  # at once, whose bodies a front keeps until they are answered
SPARE_SECONDS = 30  # beyond the time limit, for a replica that is to stop


Modes = Annotated[  # on a command line with commas between them
    tuple[str, ...], BeforeValidator(lambda words: tuple(words.split(",")) if isinstance(words, str) else words)
]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Of `app`, besides the knobs of `Settings` and `Fleet`."""

    bundle: Path  # that is in this place on every machine
    api_key_file: Path | None = None  # likewise
    backend: str = "auto"
    second_stream: bool = False
    modes: Modes | None = None


def app(arguments: dict[str, Any]) -> serve.Application:
    """What `serve run` and Serve's configuration files deploy.

    Raises:
        ClickException: arguments or a bundle that cannot be used, in one line.
    """
    try:
        return _deploy(arguments)
    except RealCompoError as error:
        raise ClickException(str(error)) from error


class Replica:
    """One server, of one pipeline, whose requests come from fronts instead of a socket."""

    def __init__(self, told: Arguments, settings: Settings, threads: int) -> None:
        torch.set_num_threads(threads)  # not left to Ray, whose replicas were seen to draw with more
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        warnings.simplefilter("ignore", UserWarning)  # answers have them
        pipe = RealCompo.load(told.bundle, backend=told.backend, second_stream=told.second_stream, modes=told.modes)
        self._service = Service(pipe, settings)
        self._app = create_app(self._service)
        self._service.start()
        while not self._service.has_started:
            time.sleep(0.05)
        self.check_health()

    async def answer(self, call: Call) -> AsyncIterator[Message]:
        async for message in answer(self._app, call):
            yield message

    def metrics(self) -> tuple[str, bytes]:
        return serve.get_replica_context().replica_tag, self._service.metrics.text()

    def check_health(self) -> None:
        """Ray calls it, and starts another replica instead of one where it raises."""
        if not self._service.health["live"]:
            raise RuntimeError("the engines fail; the log says why")

    def __del__(self) -> None:
        self._service.close()


class FrontReplica:
    """A front: `front.Front` with Ray between it and the servers."""

    def __init__(self, replicas: DeploymentHandle, told: Arguments, settings: Settings) -> None:
        self._replicas, self._metrics = replicas.options(stream=True), FrontMetrics()
        self._front = Front(self._ask, self._cancel, self._gather, settings, self._metrics)
        self._keys = read_keys(told.api_key_file)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return Guard(self._front, self._keys)

    def drop(self, name: str) -> bool:
        return self._front.drop(name)

    async def _ask(self, call: Call) -> AsyncIterator[Message]:
        response = self._replicas.answer.remote(call)
        try:
            async for message in response:
                yield message
        except BackPressureError as error:
            raise Crowded from error
        except RayActorError as error:
            raise Lost from error
        except (asyncio.CancelledError, GeneratorExit):  # of one that has failed, cancelling raises that again
            response.cancel()
            raise

    async def _cancel(self, name: str) -> bool:
        """Whichever front has it."""
        fronts = serve.get_deployment_handle(FRONT)
        return any(
            found is True for found in await fronts.broadcast("drop", name).results_async(return_exceptions=True)
        )

    async def _gather(self) -> bytes:
        found = await self._replicas.broadcast("metrics").results_async(return_exceptions=True)
        mine = serve.get_replica_context().replica_tag, self._metrics.text()
        return gather([mine, *(one for one in found if not isinstance(one, Exception))])


REPLICA, FRONT = "Replica", "Front"


def _deploy(arguments: Mapping[str, Any]) -> serve.Application:
    told, settings, fleet = _read(arguments)
    if told.modes is not None:
        check_modes(told.modes)
    read_manifest(told.bundle)
    read_keys(told.api_key_file)
    seconds = settings.time_limit_seconds + SPARE_SECONDS
    gpus = _gpus(fleet)
    replicas = serve.deployment(
        Replica,
        name=REPLICA,
        ray_actor_options={"num_cpus": fleet.cpus, "num_gpus": gpus},
        max_ongoing_requests=settings.max_queue,
        max_queued_requests=settings.max_queue,
        autoscaling_config={
            "min_replicas": fleet.min_replicas,
            "max_replicas": _most_replicas(fleet, gpus),
            "target_ongoing_requests": fleet.target or settings.max_batch,
        },
        graceful_shutdown_timeout_s=seconds,
    ).bind(told, settings, max(round(fleet.cpus), 1))
    return serve.deployment(
        serve.ingress()(FrontReplica),
        name=FRONT,
        num_replicas=fleet.fronts,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=FRONTS_REQUESTS,
        max_queued_requests=FRONTS_REQUESTS,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        graceful_shutdown_timeout_s=seconds,
    ).bind(replicas, told, settings)


def _gpus(fleet: Fleet) -> float:
    """Of a replica. `serve run` asks before it connects to a cluster: then this machine tells."""
    if fleet.gpus is not None:
        return fleet.gpus
    return float(_cluster_gpus() > 0)


def _cluster_gpus() -> float:
    return ray.cluster_resources().get("GPU", 0) if ray.is_initialized() else torch.cuda.device_count()


def _most_replicas(fleet: Fleet, gpus: float) -> int:
    if fleet.max_replicas is not None:
        return max(fleet.max_replicas, fleet.min_replicas)
    return max(int(_cluster_gpus() / gpus) if gpus else 1, fleet.min_replicas)


def _read(arguments: Mapping[str, Any]) -> tuple[Arguments, Settings, Fleet]:
    """Words of a command line, or a configuration file's values.

    Raises:
        RealCompoError: one that is unknown, missing or out of its range.
    """
    knobs = knobs_of(Settings) | knobs_of(Fleet)
    own = {one.name: one.type for one in fields(Arguments)}
    known = own | {name: knob.type for name, knob in knobs.items()}
    if unknown := [name for name in arguments if name not in known]:
        raise RealCompoError(f"{unknown[0]} is no argument; use {', '.join(known)}")
    if "bundle" not in arguments:
        raise RealCompoError("there is no bundle: add bundle=FOLDER, in the same place on every machine")
    given = {name: _value(name, known[name], value) for name, value in arguments.items()}
    paths = {name: given[name].absolute() for name in ("bundle", "api_key_file") if given.get(name)}
    told = Arguments(**{name: value for name, value in (given | paths).items() if name in own})
    return told, make(Settings, given), make(Fleet, given)


def _value(name: str, kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise RealCompoError(f"{name}={value!r}: {error.errors()[0]['msg']}") from error
