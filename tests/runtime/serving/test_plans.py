"""A server of plans, which take so many rows and no more, on `RecordingTensorRT`."""

import json
from pathlib import Path

import pytest

from runtime.serving.errors import Refusal
from runtime.serving.service import Service
from runtime.serving.settings import Settings
from tests.runtime.test_pipeline import PROMPT
from tests.runtime.test_tensorrt import folder, open_recording

__all__ = ["folder"]  # a fixture


def test_runs_have_no_more_images_than_plans_take(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Four rows are two images with guidance."""
    service = Service(open_recording(folder, profiles=[[1, 1, 4]]), Settings(max_batch=8))
    assert service.settings.max_batch == 2
    assert "max_batch=8 is more than this bundle's plans take: runs have 2 images" in caplog.text
    asked = {"prompt": PROMPT, "gradient": "text_to_image", "n": 3}
    with pytest.raises(Refusal, match="3 images are too many; use 1 to 2"):
        service.read(json.dumps(asked).encode())
    assert service.read(json.dumps(asked | {"n": 2}).encode()).count == 2


def test_a_limit_that_plans_keep_stays(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(max_batch=2)
    assert Service(open_recording(folder, profiles=[[1, 1, 4]]), settings).settings == settings and not caplog.text
