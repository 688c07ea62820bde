"""The bundle: a folder of engines described by `manifest.json`, and the checks made before anything in it runs."""

import hashlib
import os
import shlex
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import RealCompoError
from runtime.words import Backend, Flavour, Model, Precision, Quantization, Role

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
Target = Literal["text_to_image", "spatial", "both"]  # models that a LoRA is fused into
TARGETS: tuple[Target, ...] = get_args(Target)
SHORT = 40  # characters of a name that a temporary one starts with: the longest names leave no room for more


def _inside_bundle(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or "\\" in path or len(pure.parts) != 1 or pure.parts[0] in ("", ".", ".."):
        raise ValueError(f"{path!r} leaves the bundle folder; only plain file names are allowed")
    return path


Size = Annotated[int, Field(gt=0)]
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Version(BaseModel):
    format_version: int


class FileSpec(_Spec):
    """A file beside the manifest."""

    name: Annotated[str, AfterValidator(_inside_bundle)]
    sha256: str


class TensorSpec(_Spec):
    """An engine's input or output. Dimensions are sizes, or names of symbolic sizes such as `batch`."""

    name: str
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "bool"]
    shape: tuple[Size | str, ...]


class PlanSpec(_Spec):
    """A serialized TensorRT plan, and what it was built with."""

    file: FileSpec
    flavour: Flavour
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None = None  # that a tensorrt plan was built on, and for
    flags: dict[str, bool | int]
    profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]  # input: min, opt, max shapes


class EngineSpec(_Spec):
    """One engine: its ONNX graph, the plan built from it if any, and how far it was from PyTorch."""

    role: Role
    model: Model | None = None  # whose work it does at every step; None of an engine that runs once an image
    alone: bool = False  # whether it also works with no engine beside it
    key: str  # hash of all that the part depends on; a part whose key is unchanged is not built again
    # The .onnx file first, then the files of its weights, some of which others have too
    graph: Annotated[tuple[FileSpec, ...], Field(min_length=1)]
    fused: FileSpec | None = None  # the same graph over the same weights, with attention as ONNX Runtime's operator
    plan: PlanSpec | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: Precision
    quantization: Quantization | None = None  # of linear layers and convolutions; the rest is of `precision`
    verification: dict[str, float]  # output: relative error against PyTorch; quantized, against the engine before
    verified_size: tuple[int, int] | None = None  # (height, width) of the twin that the figures are of, if of one
    golden: FileSpec | None = None  # what PyTorch makes of a few inputs, see `bundle.golden`
    depends: dict[str, str] = {}  # what the key is a hash of, to tell what has changed

    @property
    def for_onnx_runtime(self) -> FileSpec:
        """The .onnx file that ONNX Runtime's own providers run."""
        return self.fused or self.graph[0]

    def input(self, name: str) -> TensorSpec:
        """The input of that name, which there must be."""
        return next(tensor for tensor in self.inputs if tensor.name == name)


class ModelSpec(_Spec):
    source: str  # what was asked for: folder, file, or REPO[:PATH] on a hub
    revision: str | None  # the commit, if it is on a hub
    sha256: str  # of its weights
    prepared: str | None = None  # the folder that the source was turned into, from the bundle's own

    def place(self, bundle: Path) -> str:
        """Where the weights are: on a hub, or in a folder."""
        return str(bundle / self.prepared) if self.prepared else self.pinned

    @property
    def pinned(self) -> str:
        """What names the very same files again: REPO@COMMIT[:PATH] on a hub."""
        if self.revision is None:
            return self.source
        repo, colon, path = self.source.partition(":")
        return f"{repo}@{self.revision}{colon}{path}"


class LoraSpec(_Spec):
    """A LoRA that is fused."""

    source: str
    sha256: str
    scale: float
    into: Target = "text_to_image"


class PairSpec(_Spec):
    name: str
    text_to_image: ModelSpec
    spatial: ModelSpec  # the text-to-image model again where models attached to it make it spatial
    attached: tuple[ModelSpec, ...] = ()  # to the UNet: a ControlNet or adapter for each of `SpatialSpec.controls`
    loras: tuple[LoraSpec, ...] = ()


class MapSpec(_Spec):
    """Which cross-attention layers the maps average, and their (height, width)."""

    resolution: tuple[Size, Size]
    layers: dict[Model, tuple[str, ...]]


class ControlSpec(_Spec):
    """What a ControlNet or T2I-Adapter wants besides a picture of its kind."""

    pen: str = "thin"  # that draws people, of `runtime.layouts.openpose.PENS`
    conditional_alone: bool = False  # unconditional rows are not shown the picture


class SpatialSpec(_Spec):
    """What makes the spatial model follow a layout: a key of `runtime.spatial.KINDS`."""

    kind: str
    controls: tuple[str, ...] = ()  # what each attached model reads, in their order: `runtime.spatial.control_images`
    details: tuple[ControlSpec, ...] = ()  # of each, or none where all are as usual

    def detail(self, i: int) -> ControlSpec:
        """Of the i-th attached model."""
        return self.details[i] if self.details else ControlSpec()


class RecommendedSpec(_Spec):
    """The way to draw that `python -m benchmarks study --save` chose for this bundle."""

    knobs: dict[str, bool | int | float | str]  # of a call
    why: str
    command: str  # that chose it


class RecipeSpec(_Spec):
    """How a distilled model in the bundle wants to be drawn with."""

    name: str
    file: str  # the LoRA's, or the model
    knobs: dict[str, bool | int | float | str]  # of a call


class Manifest(_Spec):
    format_version: int
    command: tuple[str, ...]  # what follows `python -m export` to make the bundle, but for --out
    pair: PairSpec
    backend: Backend
    precision: Precision
    batch: tuple[Size, Size, Size]  # min, opt, max UNet rows
    shared_unet: bool = False  # the spatial UNet told of no layout is the text-to-image one: one engine for both
    spatial: SpatialSpec
    engines: dict[Role, EngineSpec]
    maps: MapSpec
    loss_scale: Factor
    latent_shape: tuple[Size, Size, Size]  # (channels, height, width)
    latent_scale: Factor  # latents are the VAE's times this
    image_size: tuple[Size, Size]  # (height, width) in pixels
    max_regions: Size
    tokenizer: FileSpec
    tokenizer_2: FileSpec | None = None  # of SDXL's second text encoder, where tokens are the same and padding is not
    zero_negative: bool = False  # an empty negative prompt is told as zeros
    max_tokens: Size
    scheduler: dict[str, Any]  # diffusers' scheduler config
    recommended: RecommendedSpec | None = None
    recipe: RecipeSpec | None = None

    @property
    def tokenizers(self) -> list[FileSpec]:
        """One for each text encoder."""
        return [file for file in (self.tokenizer, self.tokenizer_2) if file]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`.

    Raises:
        RealCompoError: no manifest, not one this version reads, or one with a bad field.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise RealCompoError(f"{folder} is not a bundle: it has no {MANIFEST}. {how_to_rebuild(folder)}")
    content = path.read_bytes()
    try:
        version = _Version.model_validate_json(content).format_version
        if version != FORMAT_VERSION:  # before the rest is read: another version has other fields
            raise RealCompoError(
                f"{path} has format version {version}; this runtime reads {FORMAT_VERSION}. {how_to_rebuild(folder)}"
            )
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise RealCompoError(f"{path} is damaged: {field}: {first['msg']}. {how_to_rebuild(folder)}") from error


def check_files(folder: Path, manifest: Manifest, roles: Collection[Role] | None = None) -> None:
    """Check that every file of the bundle is there and has the recorded hash.

    Args:
        roles: look at these engines' files alone, and at the tokenizers.

    Raises:
        RealCompoError: a file is missing, is a link out of the folder, or has changed.
    """
    for file in bundle_files(manifest, roles):
        path = folder / file.name
        if not path.is_file():
            raise RealCompoError(f"{path} is missing. {how_to_rebuild(folder, manifest)}")
        if path.resolve().parent != folder.resolve():
            raise RealCompoError(f"{path} is a link that leaves the bundle folder. {how_to_rebuild(folder, manifest)}")
        if (found := sha256_of(path)) != file.sha256:
            raise RealCompoError(
                f"{path} is corrupted: its sha256 is {found[:12]}..., the manifest says {file.sha256[:12]}.... "
                f"{how_to_rebuild(folder, manifest)}"
            )


def bundle_files(manifest: Manifest, roles: Collection[Role] | None = None) -> list[FileSpec]:
    """Every file that the manifest names, or those of some engines, once: engines share weights."""
    engines = [engine for role, engine in manifest.engines.items() if roles is None or role in roles]
    files = (*manifest.tokenizers, *(file for engine in engines for file in engine_files(engine)))
    return list({file.name: file for file in files}.values())


def engine_files(engine: EngineSpec) -> list[FileSpec]:
    """An engine's graph, and its fused one, plan and golden values if it has them."""
    others = (engine.fused, engine.plan and engine.plan.file, engine.golden)
    return [*engine.graph, *(file for file in others if file)]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes the folder a bundle: last, and in one step."""
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, then rename, so that `path` is never half written."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:SHORT]}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# A bundle that is made of another one has what that one was built with
_OF_ANOTHER = {
    "quantize": "Build {source} with {options}, then this one with: {command}",
    "widen": "A widened bundle has graphs alone: build {source} with {options} and use that",
}
# What one backend alone takes: of no use to another
_ITS_OWN = ("--compute-capability", "--optimization-level", "--version-compatible", "--timing-cache")


def how_to_rebuild(folder: Path, manifest: Manifest | None = None, **changes: str) -> str:
    """The sentence that ends every error about a bundle: the command that made it, or of a bundle that cannot be read
    the command in general.

    Args:
        changes: options of the build that have to be others, such as batch="1:2:16".
    """
    if manifest is None:
        return f"Build it with: python -m export build PAIR --out {shlex.quote(str(folder))}"
    if changes and (advice := _OF_ANOTHER.get(manifest.command[0])):
        options = shlex.join(word for option in _options(changes) for word in option)
        return advice.format(source=manifest.command[1], options=options, command=_export(folder, manifest.command))
    return f"Build it with: {_export(folder, _changed(manifest.command, changes))}"


def _export(folder: Path, command: Sequence[str]) -> str:
    what, options = command[:2], command[2:]
    return shlex.join(["python", "-m", "export", *what, "--out", str(folder), *options])


def _changed(command: Sequence[str], changes: dict[str, str]) -> list[str]:
    """A build's command with other options."""
    given = list(_grouped(command))
    new = [option for option in _options(changes) if option not in given]
    replaced = {name for name, _ in new}
    if "--backend" in replaced:
        replaced.update(_ITS_OWN)
    return [word for option in (*(kept for kept in given if kept[0] not in replaced), *new) for word in option]


def _options(changes: dict[str, str]) -> list[tuple[str, str]]:
    return [(f"--{name.replace('_', '-')}", value) for name, value in changes.items()]


def _grouped(command: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every word that is no option's value, with the value that follows it if it is an option's name."""
    words = list(command)
    while words:
        valued = words[0].startswith("--") and words[1:] and not words[1].startswith("--")
        yield tuple(words[: 1 + bool(valued)])
        del words[: 1 + bool(valued)]
