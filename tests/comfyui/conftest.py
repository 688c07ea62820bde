"""The pack over the stand-in: imported by its path and under a name of ComfyUI's choice, as ComfyUI does."""

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from export.checkpoints.folders import ROOT

PACK, STAND_IN = ROOT / "comfyui", Path(__file__).parent / "stand_in"
NAMES = ("comfy", "comfy_api", "folder_paths", "pack")


@pytest.fixture(scope="session")
def stand_in() -> Iterator[None]:
    sys.path.insert(0, str(STAND_IN))
    yield
    sys.path.remove(str(STAND_IN))
    for name in [one for one in sys.modules if one.split(".")[0] in NAMES]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def pack(stand_in: None) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py")
    assert spec and spec.loader
    sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def nodes(pack: ModuleType) -> dict[str, Any]:
    """By the names that workflows have."""

    async def found() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(found())}
