"""What weights files are told to be: every kind in the wild's names, in its right place and in wrong ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from export.__main__ import app
from export.checkpoints.files import check_place, identify, identify_names
from export.checkpoints.header import TensorInfo, read_header
from export.checkpoints.kinds import KINDS
from export.checkpoints.lora_options import parse_loras
from export.checkpoints.places import CONTROLNET, GLIGEN, LORA, TEXT_TO_IMAGE, VAE, Place
from export.checkpoints.random_weights import ARCHITECTURES
from export.spatial import find_pair
from runtime.errors import RealCompoError
from runtime.messages import LONGEST
from tests.export.weight_files import CASES, Case, write_file

PLACES = (TEXT_TO_IMAGE, GLIGEN, CONTROLNET, LORA, VAE)
GIVEN: dict[Place, Callable[[str], object]] = {  # how `build` first meets a file
    TEXT_TO_IMAGE: lambda file: find_pair("sd15-depth", file),
    GLIGEN: lambda file: find_pair("sd15-gligen", None, [file]),
    CONTROLNET: lambda file: find_pair("sd15-depth", None, [file]),
    LORA: lambda file: parse_loras([file]),
    VAE: lambda file: check_place(Path(file), VAE),
}


def refusal(act: Callable[[], object]) -> str:
    """The one clear line."""
    with pytest.raises(RealCompoError) as caught:
        act()
    line = str(caught.value)
    assert len(line) <= LONGEST
    assert "\n" not in line
    return line


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kinds(case: Case, tmp_path: Path) -> None:
    found = identify(write_file(tmp_path / "file.safetensors", case.shapes, case.dtype))
    family, option = found.family and found.family.name, found.place and found.place.option
    assert (found.kind.name, family, option) == (case.kind, case.family, case.option)
    assert found.tensors == len(case.shapes)
    assert dict(found.dtypes) == ({case.dtype: len(case.shapes)} if case.shapes else {})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_places(case: Case, tmp_path: Path) -> None:
    """Each file is taken in its own place, and everywhere else a line says what it is and where it goes."""
    file = write_file(tmp_path / "file.safetensors", case.shapes, case.dtype)
    found = identify(file)
    for place in PLACES:
        if place is found.place:
            GIVEN[place](str(file))
            continue
        line = refusal(lambda place=place: GIVEN[place](str(file)))
        assert f"{file.name} is {found.kind.title}" in line
        assert found.place is None or f"which goes with {found.place.title};" in line
        assert line.endswith(f"{place.option} here takes {place.takes}")


def test_every_kind_is_tried() -> None:
    assert {case.kind for case in CASES} >= {kind.name for kind in KINDS}
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", ["LoRA, kohya, SDXL by text", "LoRA, diffusers", "textual inversion", "IP-Adapter"])
def test_a_pickle_is_told_alike(name: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    torch.save({key: torch.zeros(shape, dtype=torch.float16) for key, shape in case.shapes.items()}, tmp_path / "a.pt")
    safe = write_file(tmp_path / "file.safetensors", case.shapes, "F16")
    found, same = identify(tmp_path / "a.pt"), identify(safe)
    assert found.size != same.size
    assert replace(found, path=same.path, size=same.size) == same
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt", "file.safetensors"], "nothing is converted"


def test_the_header_is_what_safetensors_reads(tmp_path: Path) -> None:
    metadata = {"a": '} , { \\ " é \u2028', "b": "", "__metadata__": "x"}
    for case in CASES:
        file = write_file(tmp_path / "file.safetensors", case.shapes, "F16", metadata)
        with safe_open(file, framework="pt") as opened:
            told = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        assert {name: one.shape for name, one in read_header(file).items()} == told


def test_diffusers_own_models_are_known() -> None:
    """Every name that diffusers gives a model's weights, not the few of the cases."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from export.checkpoints.random_weights import make_controlnet

    sd1 = ARCHITECTURES["sd15-gligen"]
    with torch.device("meta"):
        models = {
            "unet": UNet2DConditionModel(**sd1.unet),
            "gligen": UNet2DConditionModel(**sd1.unet, attention_type="gated"),
            "vae": AutoencoderKL(**sd1.vae),
            "controlnet": make_controlnet(sd1),
        }
    for kind, model in models.items():
        found = identify_names({key: TensorInfo("F32", tuple(w.shape)) for key, w in model.state_dict().items()})
        assert (found.kind.name, found.naming) == (kind, "diffusers'")
        assert kind == "vae" or (found.family and found.family.name == "sd1")


def test_what_is_no_weights_file_is_left_to_others(tmp_path: Path) -> None:
    assert check_place(tmp_path / "none.safetensors", LORA) is None
    assert check_place(tmp_path, TEXT_TO_IMAGE) is None
    assert check_place(Path("stabilityai/stable-diffusion"), TEXT_TO_IMAGE) is None


def test_inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    case = next(case for case in CASES if case.name == "LoRA, kohya, with text encoder")
    file = write_file(tmp_path / "file.safetensors", case.shapes)
    result = CliRunner().invoke(app, ["inspect", str(file)])
    assert result.exit_code == 0
    for said in ("a LoRA", "Stable Diffusion 1.x", "kohya's", "UNet, text encoder", "F16 (4)", "--lora"):
        assert said in result.output


@pytest.mark.parametrize("name", ["none.safetensors", "pickle.ckpt", "cut.safetensors"])
def test_inspect_refuses_in_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "pickle.ckpt").write_bytes(b"\x80\x04N.")
    (tmp_path / "cut.safetensors").write_bytes(b"\xff\x00\x00\x00\x00\x00\x00\x00{")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / name)])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert name in result.output
