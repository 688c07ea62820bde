import pytest
import torch
from diffusers import ControlNetModel, T2IAdapter

from benchmarks.tabletop import data, train_adapter, train_controlnet
from benchmarks.tabletop.train import Denoiser, load_denoiser
from export.checkpoints.folders import ROOT

PAIR = ROOT / "engines" / "tabletop"


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return load_denoiser(PAIR, "text_to_image").requires_grad_(False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (data, train_controlnet, train_adapter):
        monkeypatch.setattr(module, "BATCH", 2)
        monkeypatch.setattr(module, "SCENES", 6)


def make_batch() -> data.Batch:
    generator = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(6, 4, 16, 16, generator=generator),
        "ids": torch.randint(1, 20, (6, 16), generator=generator),
        "maps": torch.randint(0, 5, (6, 128, 128), generator=generator, dtype=torch.uint8),
    }


def test_an_untrained_controlnet_adds_nothing(denoiser):
    controlnet = train_controlnet.make_controlnet(denoiser.unet)
    latents, text, images = torch.randn(2, 4, 16, 16), torch.randn(2, 16, 64), torch.rand(2, 3, 128, 128)
    down, middle = controlnet(latents, 500, text, images, return_dict=False)
    assert len(down) == 6 and all(not residual.any() for residual in (*down, middle))


def test_training_reaches_the_controlnet_alone(denoiser, small):
    """At the first step gradients reach the convolutions that are zero, and through none of them the layers behind."""
    controlnet, batch = train_controlnet.make_controlnet(denoiser.unet), make_batch()
    train_controlnet.control_loss(denoiser, controlnet, batch, "segmentation", 0).backward()
    joints = [p.grad for name, p in controlnet.named_parameters() if name.startswith("controlnet_down_blocks")]
    assert all(grad.any() for grad in joints)
    assert not controlnet.conv_in.weight.grad.any()
    assert all(p.grad is None for p in denoiser.parameters())


def test_a_step_s_batch_is_its_own(denoiser, small):
    controlnet, batch = train_controlnet.make_controlnet(denoiser.unet), make_batch()
    with torch.no_grad():
        losses = [train_controlnet.control_loss(denoiser, controlnet, batch, "depth", s).item() for s in (3, 4, 3)]
    assert losses[0] == losses[2] != losses[1]


def test_a_small_one_is_the_unet_s_convolutions(denoiser):
    """In diffusers' own small form, with every weight that the UNet has of it; it adds as many residuals."""
    small = train_controlnet.make_controlnet(denoiser.unet, attention=False)
    theirs, own = denoiser.unet.state_dict(), small.state_dict()
    shared = [name for name in own if not name.startswith("controlnet_")]
    assert shared and all(torch.equal(own[name], theirs[name]) for name in shared)
    assert not any("attentions" in name for name in own)
    down, middle = small(
        torch.randn(2, 4, 16, 16), 500, torch.randn(2, 16, 64), torch.rand(2, 3, 128, 128), return_dict=False
    )
    whole = train_controlnet.make_controlnet(denoiser.unet)
    wanted, _ = whole(
        torch.randn(2, 4, 16, 16), 500, torch.randn(2, 16, 64), torch.rand(2, 3, 128, 128), return_dict=False
    )
    assert [one.shape for one in down] == [one.shape for one in wanted] and middle.shape == (2, 128, 4, 4)


@pytest.mark.parametrize("kind", ["segmentation", "depth", "canny"])
def test_the_command_saves_what_diffusers_loads(kind, small, tmp_path):
    train_controlnet.main(kind, PAIR, tmp_path / "net", tmp_path / "work", steps=3)
    trained = ControlNetModel.from_pretrained(tmp_path / "net", torch_dtype=torch.float16, low_cpu_mem_usage=False)
    assert all(joint.weight.any() for joint in trained.controlnet_down_blocks)
    size = sum(path.stat().st_size for path in (tmp_path / "net").iterdir())
    assert size < (3e6 if kind == "canny" else 5e6)
    assert str(tmp_path) not in (tmp_path / "net" / "config.json").read_text()


def test_training_reaches_the_adapter_alone(denoiser, small):
    adapter = train_adapter.make_adapter(denoiser)
    train_adapter.adapter_loss(denoiser, adapter, make_batch(), "depth", 0).backward()
    assert all(p.grad.any() for name, p in adapter.named_parameters() if "block1.weight" in name)
    assert all(p.grad is None for p in denoiser.parameters())


def test_the_command_saves_an_adapter_that_diffusers_loads(small, tmp_path):
    train_adapter.main("canny", PAIR, tmp_path / "net", tmp_path / "work", steps=2)
    trained = T2IAdapter.from_pretrained(tmp_path / "net", torch_dtype=torch.float16, low_cpu_mem_usage=False)
    assert [one.shape[1:] for one in trained.float()(torch.rand(1, 3, 128, 128))] == [
        (48, 16, 16),
        (96, 8, 8),
        (128, 4, 4),
    ]
    assert sum(path.stat().st_size for path in (tmp_path / "net").iterdir()) < 1.5e6
    assert str(tmp_path) not in (tmp_path / "net" / "config.json").read_text()
