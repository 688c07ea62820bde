"""The attention loss and its gradient in one graph: a vector-Jacobian product, traced from PyTorch's autograd.

Inference engines have no backward, so the backward is written out as a forward graph, cut off after the last map layer.
"""

from collections.abc import Iterator, Sequence

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from export.graphs.attention import average_maps, open_attention
from export.graphs.decompositions import decompositions
from export.graphs.functional import call_with, own_tensors
from export.graphs.models import Denoiser
from runtime.denoising.balancer import attention_loss

Tensors = dict[str, torch.Tensor]
aten = torch.ops.aten


class AttentionGradient(nn.Module):
    """The inputs of a model's graph, region_masks (B, R, P), region_tokens (B, R, L), region_weights (B, R) ->
    loss (B,), grad_latents (B, 4, h, w), region_maps (B, R, P).

    `runtime.denoising.balancer.attention_loss` is all there is to the loss; every row has its own, and its own
    gradient. The loss is multiplied by `loss_scale` on the way back, and the gradient divided by it at the end: in fp16
    what lies between would underflow otherwise.
    """

    def __init__(self, model: Denoiser, loss_scale: float = 1.0):
        super().__init__()
        self.model = model
        self.loss_scale = loss_scale
        open_attention(model)
        _open_upsampling(model)
        _straighten_projections(model)
        model.unet.get_submodule(model.layers[-1]).register_forward_hook(_stop)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        *,
        region_masks: torch.Tensor,
        region_tokens: torch.Tensor,
        region_weights: torch.Tensor,
        **conditions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            maps = self._maps(leaf, timestep, encoder_hidden_states, conditions)
            loss, region_maps = attention_loss(maps, region_masks, region_tokens, region_weights)
            (gradient,) = torch.autograd.grad(loss, leaf, torch.full_like(loss, self.loss_scale))
        return loss.detach(), gradient / self.loss_scale, region_maps.detach()

    def _maps(
        self, latents: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, conditions: Tensors
    ) -> torch.Tensor:
        """(B, P, L); what the UNet does after its last map layer is not computed."""
        try:
            self.model(latents, timestep, encoder_hidden_states, **conditions)
        except _MapsComplete:
            return average_maps(self.model.recorders)
        raise AssertionError("the last map layer has not been called")


class _MapsComplete(Exception):
    """The last map layer has been computed."""


def _stop(*_: object) -> None:
    raise _MapsComplete


class _Doubled(torch.autograd.Function):
    """(B, C, H, W) -> (B, C, 2H, 2W), each pixel four times. Its backward is a sum over blocks, for which engines have
    an average; PyTorch's own operator would be traced as a gather."""

    @staticmethod
    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        repeated = hidden_states[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return repeated.flatten(4, 5).flatten(2, 3)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        return

    @staticmethod
    def backward(ctx: object, cotangent: torch.Tensor) -> torch.Tensor:
        return 4 * aten.avg_pool2d.default(cotangent, [2, 2], [2, 2])


class _OpenUpsample(nn.Module):
    """`Upsample2D` with a backward that ONNX has; that of `interpolate` is none."""

    def __init__(self, upsample: Upsample2D):
        super().__init__()
        self.conv = upsample.conv

    def forward(self, hidden_states: torch.Tensor, output_size: int | None = None) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        assert output_size is None, "latents are halved evenly: `export.graphs.geometry.measure` sees to it"
        return self.conv(_Doubled.apply(hidden_states))


def _open_upsampling(model: nn.Module) -> None:
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, Upsample2D):
                block.register_module(name, _OpenUpsample(child))


def _straighten_projections(model: nn.Module) -> None:
    """Of pixels that lie channel by channel PyTorch makes a product with the weight repeated for every row."""
    for module in model.modules():
        if isinstance(module, Transformer2DModel) and isinstance(module.proj_in, nn.Linear):  # SDXL's
            module.proj_in.register_forward_pre_hook(_make_contiguous)


def _make_contiguous(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in inputs)


def trace_gradient(graph: nn.Module, inputs: Tensors) -> fx.GraphModule:
    """A graph that calls autograd, as operators alone, with its weights as attributes; none of them knows the batch.

    Tensors are faked while tracing: neither weights nor activations are computed with.
    """
    weights = own_tensors(graph)
    sizes = ShapeEnv()
    with (mode := FakeTensorMode(shape_env=sizes)), enable_python_dispatcher():
        fake_weights = [mode.from_tensor(weight, static_shapes=True) for weight in weights.values()]
        fake_inputs = _with_symbolic_batch(mode, inputs)

        def flat(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            state = dict(zip(weights, tensors, strict=False))
            outputs: tuple[torch.Tensor, ...] = call_with(
                graph, state, dict(zip(inputs, tensors[len(state) :], strict=True))
            )
            return outputs

        traced = make_fx(flat, decomposition_table=decompositions())(*fake_weights, *fake_inputs)
    assert not sizes.replacements, "an operator fixed the batch"
    _leave_inputs(traced.graph)
    _multiply_unflattened(traced.graph)
    _forget_batch(traced.graph)
    return _own_weights(traced, weights, list(inputs))


def _leave_inputs(graph: fx.Graph) -> None:
    """Let sums that are made in place, as those of a union ControlNet are, make new tensors, which ONNX has alone: what
    comes after takes the sum from the node that made it."""
    for node in graph.find_nodes(op="call_function", target=aten.add_.Tensor):
        node.target = aten.add.Tensor


def _with_symbolic_batch(mode: FakeTensorMode, inputs: Tensors) -> list[torch.Tensor]:
    """Fake tensors like `inputs`, their first sizes one and the same symbol."""
    first = next(iter(inputs.values()))
    sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * (first.ndim - 1)]
    context = StatelessSymbolicContext(dynamic_sizes=sizes)  # type: ignore[var-annotated]
    batch = mode.from_tensor(first, symbolic_context=context).shape[0]
    return [torch.empty((batch, *tensor.shape[1:]), dtype=tensor.dtype) for tensor in inputs.values()]


def _multiply_unflattened(graph: fx.Graph) -> None:
    """Products of (B, P, C) and a weight as such: PyTorch flattens to (B * P, C), multiplies and undoes it."""
    for node in graph.find_nodes(op="call_function", target=aten.mm.default):
        flat, weight = node.args
        if flat.target is not aten.view.default:
            continue
        source = flat.args[0]
        *leading, width = source.meta["val"].shape
        shape = [*leading, node.meta["val"].shape[-1]]
        if width != flat.meta["val"].shape[-1] or not all(_is_view(user, shape) for user in node.users):
            continue
        with graph.inserting_before(node):
            product = graph.call_function(aten.matmul.default, (source, weight))
        product.meta["val"] = next(iter(node.users)).meta["val"]
        for user in list(node.users):
            user.replace_all_uses_with(product)
    graph.eliminate_dead_code()


def _is_view(node: fx.Node, shape: Sequence[int | torch.SymInt]) -> bool:
    return node.target is aten.view.default and list(node.meta["val"].shape) == shape


def _forget_batch(graph: fx.Graph) -> None:
    """Let views and expansions infer the batch, or a multiple of it, from what they are given.

    What is left takes any batch though it is exported with a fixed one, which is three times as fast as with a symbol:
    the exporter traces twice more, and reasons about every size.
    """
    for node in [*graph.find_nodes(op="call_function", target=aten.view.default), *_expansions(graph)]:
        sizes = node.meta["val"].shape
        node.args = (node.args[0], [-1 if isinstance(size, torch.SymInt) else size for size in sizes])
    for node in _idle_nodes(graph):
        node.replace_all_uses_with(node.all_input_nodes[0])
    graph.eliminate_dead_code()
    symbolic = [node.name for node in graph.nodes if isinstance(node.meta.get("val"), torch.SymInt)]
    assert not symbolic, f"{symbolic} would fix the batch"


def _expansions(graph: fx.Graph) -> Iterator[fx.Node]:
    """Those that do not expand along the batch: an inferred size means the size that is there."""
    for node in graph.find_nodes(op="call_function", target=aten.expand.default):
        (tensor, sizes), rank = node.args, node.meta["val"].ndim
        given = [1] * (rank - tensor.meta["val"].ndim) + list(tensor.meta["val"].shape)
        if all(
            not isinstance(size, fx.Node) or isinstance(have, torch.SymInt)
            for size, have in zip(sizes, given, strict=True)
        ):
            yield node


def _idle_nodes(graph: fx.Graph) -> Iterator[fx.Node]:
    """Other names for a tensor, and expansions to the shape that is there already."""
    yield from graph.find_nodes(op="call_function", target=aten.alias.default)
    for node in graph.find_nodes(op="call_function", target=aten.expand.default):
        if node.meta["val"].shape == node.args[0].meta["val"].shape:
            yield node


def _own_weights(traced: fx.GraphModule, weights: Tensors, inputs: list[str]) -> fx.GraphModule:
    """Turn the placeholders of weights into attributes, each once; those that the outputs do not need go."""
    graph = traced.graph
    for node, name in zip(graph.find_nodes(op="placeholder"), [*weights, *inputs], strict=True):
        if name in inputs:
            node.target = name
            node._rename(name)
            continue
        if node.users:
            attribute = name.replace(".", "_")
            traced.register_buffer(attribute, weights[name].detach())
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(attribute))
        graph.erase_node(node)
    return fx.GraphModule(traced, graph)
