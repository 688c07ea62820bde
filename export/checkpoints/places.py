"""The options of `build` that take weights files, and the families that files are told to be for."""

from dataclasses import dataclass

from export.words import Component


@dataclass(frozen=True)
class Place:
    option: str
    takes: str  # a file of this
    among: str = ""  # which pairs, where not all have it

    @property
    def title(self) -> str:
        return f"{self.option} {self.among}".strip()


TEXT_TO_IMAGE = Place("--text-to-image", "a whole Stable Diffusion 1.x, 2.x or SDXL model")
GLIGEN = Place("--spatial", "GLIGEN", "of a GLIGEN pair, such as sd15-gligen")
CONTROLNET = Place("--spatial", "a ControlNet", "of a ControlNet pair, such as sd15-depth")
ADAPTER = Place("--spatial", "a T2I-Adapter's folder", "of a T2I-Adapter pair, such as sd15-adapter")
ATTACHED: dict[Component, Place] = {"controlnet": CONTROLNET, "adapter": ADAPTER}
LORA = Place("--lora", "a LoRA")
VAE = Place("--vae", "a VAE")


@dataclass(frozen=True)
class Told:
    """A family as files tell it."""

    name: str
    title: str
    tells: str  # a pattern of names that it alone has
    width: int  # of what its cross-attention reads
    text_width: int  # of its first text encoder
    supported: bool = True


# The first whose names are found, or else whose width is: tried in this order.
TOLD = (
    Told("sdxl-refiner", "SDXL's refiner", r"^conditioner\.embedders\.0\.model\.", 1280, 1280, supported=False),
    Told(
        "sdxl",
        "SDXL",
        r"^conditioner\.embedders\.1\.|(?:^|[._])label_emb[._]|(?:^|[._])add_embedding[._]|^lora_te[12]_"
        r"|^text_encoder_2\.|(?:^|\.)clip_g(?:\.|$)|transformer_blocks[._][1-9]",
        2048,
        0,  # its first is that of Stable Diffusion 1.x
    ),
    Told("sd2", "Stable Diffusion 2.x", r"^cond_stage_model\.model\.|(?:^|\.)clip_h\.", 1024, 1024),
    Told("sd1", "Stable Diffusion 1.x", r"^cond_stage_model\.transformer\.", 768, 768),
)
