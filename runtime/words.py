"""The closed vocabularies: what manifests, options and tables may say. Kinds of spatial models and of control images,
samplers and families are open: their names are keys of tables."""

from typing import Literal, get_args

Model = Literal["text_to_image", "spatial"]
MODELS: tuple[Model, ...] = get_args(Model)

Role = Literal[
    "text_encoder",
    "text_to_image",
    "spatial",
    "text_to_image_gradient",
    "spatial_gradient",
    "grounding",
    "controlnet",
    "adapter",
    "vae_decoder",
]
ROLES: tuple[Role, ...] = get_args(Role)

Flavour = Literal["tensorrt-rtx", "tensorrt"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
FLAVOUR_MODULES: dict[Flavour, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}

Backend = Literal["onnx", "tensorrt-rtx", "tensorrt"]  # of a bundle: graphs alone, or a flavour's plans too
Kernels = Literal["cpu", "cuda", "tensorrt"]  # what computes: ONNX Runtime on a CPU or with CUDA, or TensorRT
Precision = Literal["fp32", "fp16", "bf16"]
Quantization = Literal["int8", "fp8"]

MAX_REGIONS = 30  # of an image: GLIGEN's object slots, as diffusers' pipeline pads them
