"""Attention, AdditiveAttention and MultiHeadAttention of a Keras file.

Letters: B batch, Q steps of the query, V steps of value and key, F features, N heads, K size of a head.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Array, Built, Source, shapes_of
from lstm_edge_exporters.keras.values import Arguments, Value

__all__ = ["build_attention", "build_multi_head_attention"]

# What Keras takes off the scores of masked steps: Attention from the score, MultiHeadAttention in its place. The fused
# product of Keras's PyTorch backend adds -0.7 times the largest number: a row without a valid step averages all steps.
MASKED, LOWEST = 1e9, -0.7 * torch.finfo(torch.float32).max
Scores = Literal["dot", "concat", "additive"]


class _Scales(nn.Module):
    """The weights of an attention layer: a factor of each feature, or of all, and a factor of the scores."""

    scale: Tensor | None
    weight: Tensor | None

    def __init__(self, scale: Tensor | None, weight: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("weight", weight)


@dataclass(frozen=True, kw_only=True)
class _Attend:
    """query [B, Q, F], value [B, V, F], and key [B, V, F] unless it is the value."""

    scores: Scores

    def __call__(self, module: nn.Module, given: Arguments) -> Value | tuple[Value, Value]:
        """Call the layer."""
        assert isinstance(module, _Scales)
        query, value = given.first[:2]
        key = given.first[2] if len(given.first) > 2 else value
        masks = list(given.mask) if isinstance(given.mask, list | tuple) else [None, None]
        scores = self._scores(module, query.tensor, key.tensor)
        mask = masks[1]
        if given.named.get("use_causal_mask", False):
            causal = _causal(scores.shape[-2], scores.shape[-1])
            mask = causal if mask is None else torch.logical_and(mask.unsqueeze(-2), causal)
        elif mask is not None:
            mask = mask.unsqueeze(-2)
        if mask is not None:
            scores = torch.where(mask, scores, scores - MASKED)
        weights = torch.softmax(scores, dim=-1)
        answer = torch.matmul(weights, value.tensor)
        if masks[0] is not None:
            answer = torch.where(masks[0].unsqueeze(-1), answer, 0.0)
        result = Value(tensor=answer, mask=masks[0])
        return (result, Value(tensor=weights)) if given.named.get("return_attention_scores", False) else result

    def _scores(self, module: _Scales, query: Tensor, key: Tensor) -> Tensor:
        if self.scores == "dot":
            scores = torch.matmul(query, key.transpose(-2, -1))
            return scores if module.scale is None else scores * module.scale
        total = query.unsqueeze(-2) + key.unsqueeze(-3)
        if self.scores == "additive":
            bent = torch.tanh(total)
            return (bent if module.scale is None else module.scale * bent).sum(dim=-1)
        assert module.weight is not None
        return module.weight * torch.tanh(total if module.scale is None else module.scale * total).sum(dim=-1)


def _causal(queries: int, values: int) -> Tensor:
    """Return bool [1, Q, V]: step q may look at the steps up to its own."""
    return (torch.arange(queries)[:, None] >= torch.arange(values)[None, :])[None]


def build_attention(options: Options, source: Source) -> Built:
    """Build an Attention or an AdditiveAttention."""
    additive = options.kind == "AdditiveAttention"
    scaled = options.flag("use_scale", additive)
    mode = "additive" if additive else options.choice("score_mode", ("dot", "concat"), "dot")
    scores: Scores = "additive" if mode == "additive" else "concat" if mode == "concat" else "dot"
    options.number("dropout", 0.0)
    options.only("causal", False)  # Keras 2 has it here; Keras 3 in the call
    options.finish()
    values = source.lanes[0].several(options, 2, 3)
    shapes = shapes_of([lane.first for lane in source.lanes])
    if not all(value.tensor.is_floating_point() for value in values) or any(len(shape) != 3 for shape in shapes):
        raise options.refuse(
            "it takes tensors of other than 3 axes, expected [query, value] of [batch, time, features]"
        )
    for name in ("return_attention_scores", "use_causal_mask"):
        source.lanes[0].flag(name, options)
    features = source.last_of(shapes[0], options)
    arrays: list[tuple[str, tuple[int, ...]]] = []
    if scaled:
        arrays.append(("scale", (features,) if additive else ()))
    if scores == "concat":
        arrays.append(("concat_score_weight", ()))
    [found] = source.read([Part(path="", arrays=tuple(arrays))]) if arrays else [[]]
    tensors = [torch.from_numpy(array) for array in found]
    scale = tensors.pop(0) if scaled else None
    return Built(
        module=_Scales(scale, tensors.pop(0) if tensors else None),
        call=_Attend(scores=scores),
        endings=("", "_scores"),
    )


class _Heads(nn.Module):
    """The four projections of a MultiHeadAttention as matrices."""

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear, output: nn.Linear) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = query, key, value, output


@dataclass(frozen=True, kw_only=True)
class _AttendInHeads:
    """query [B, Q, F], value and key [B, V, F], each over the time axis.

    ``fused`` is the way of computing that Keras takes without dropout and scores. It differs in rows without a valid
    step alone.
    """

    heads: int
    fused: bool
    window: int | None

    def __call__(self, module: nn.Module, given: Arguments) -> Value | tuple[Value, Value]:
        """Call the layer."""
        assert isinstance(module, _Heads)
        query, value = given.named["query"], given.named["value"]
        key = given.named.get("key", value)
        # Keras takes the masks off the tensors, for whoever uses them afterwards. It looks at the query's mask on the
        # tensor, and at those of value and key if they were not given.
        own = query.mask
        masks = [given.named.get(f"{name}_mask") for name in ("value", "key")]
        automatic = [value.mask, key.mask if "key" in given.named else None]
        for tensor in (query, value, key):
            tensor.mask = None
        found = [
            part if given_mask is None else given_mask.tensor for part, given_mask in zip(automatic, masks, strict=True)
        ]
        mask = self._mask(own, found, given, query.tensor.shape[1], value.tensor.shape[1])
        q, k, v = (
            projection(x.tensor).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((module.query, query), (module.key, key), (module.value, value))
        )
        scores = torch.matmul(q / sqrt(q.shape[-1]), k.transpose(-2, -1))
        if mask is not None:
            mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
            scores = scores + torch.where(mask, 0.0, LOWEST) if self.fused else torch.where(mask, scores, -MASKED)
        weights = torch.softmax(scores, dim=-1)
        if mask is not None and not self.fused:
            weights = torch.where(mask, weights, 0.0)
        answer = module.output(torch.matmul(weights, v).transpose(1, 2).flatten(2))
        result = Value(tensor=answer, mask=own)
        return (result, Value(tensor=weights)) if given.named.get("return_attention_scores", False) else result

    def _mask(
        self, own: Tensor | None, found: list[Tensor | None], given: Arguments, queries: int, values: int
    ) -> Tensor | None:
        """Return bool [B, Q, V], of what a step may look at, or None."""
        parts = [] if own is None else [own.unsqueeze(-1)]
        parts += [mask.to(torch.bool).unsqueeze(-2) for mask in found if mask is not None]
        if given.named.get("use_causal_mask", False):
            parts.append(_causal(queries, values))
        if self.window is not None:
            near = (torch.arange(queries)[:, None] - torch.arange(values)[None, :]).abs() < self.window
            parts.append(near[None])
        asked = given.named.get("attention_mask")
        if asked is not None:
            parts.append(asked.tensor.to(torch.bool))
        mask = None
        for part in parts:
            mask = part if mask is None else torch.logical_and(mask, part)
        return mask


def build_multi_head_attention(options: Options, source: Source) -> Built:
    """Build a MultiHeadAttention over the time axis."""
    heads, size = options.size("num_heads"), options.size("key_dim")
    value_size = size if options.get("value_dim", None) is None else options.size("value_dim")
    dropout = options.number("dropout", 0.0)
    bias = options.flag("use_bias", True)
    options.only("use_gate", False)
    window = None if options.get("sliding_window", None) is None else options.size("sliding_window")
    given = source.lanes[0]
    names = [name for name in ("query", "value", "key") if name in given.named]
    shapes = [shapes_of([lane.named[name] for lane in source.lanes])[0] for name in names]
    if "value" not in names or any(len(shape) != 3 for shape in shapes):
        raise options.refuse("it takes tensors of other than 3 axes, expected query and value [batch, time, features]")
    if options.get("attention_axes", None) not in (None, [1], [-2], 1, -2):
        raise options.refuse("its attention_axes are not the time axis, the only one that is exported")
    for name in ("return_attention_scores", "use_causal_mask"):
        given.flag(name, options)
    widths = [source.last_of(shape, options) for shape in shapes]
    wanted = options.get("output_shape", None)
    output = wanted[0] if isinstance(wanted, list) and len(wanted) == 1 else wanted
    if output is not None and (isinstance(output, bool) or not isinstance(output, int) or not 1 <= output <= 2**20):
        raise options.refuse("its output_shape has more than one axis, expected one size")
    options.finish()
    sizes = {
        "query": (widths[0], (heads, size)),
        "key": (widths[-1], (heads, size)),
        "value": (widths[1], (heads, value_size)),
    }
    parts = [_part(name, (width, *shape), shape, bias=bias) for name, (width, shape) in sizes.items()]
    width = output or widths[0]
    parts.append(_part("output", (heads, value_size, width), (width,), bias=bias))
    found = source.read([parts[0], parts[1], parts[2], parts[3]])
    linears = [
        _linear(arrays, width) for arrays, width in zip(found, (*(w for w, _ in sizes.values()), None), strict=True)
    ]
    scores = given.flag("return_attention_scores", options)
    return Built(
        module=_Heads(*linears),
        call=_AttendInHeads(heads=heads, fused=not dropout and not scores, window=window),
        endings=("", "_scores"),
    )


def _part(name: str, kernel: tuple[int, ...], bias_shape: tuple[int, ...], *, bias: bool) -> Part:
    arrays: list[tuple[str, tuple[int, ...]]] = [("kernel", kernel)]
    if bias:
        arrays.append(("bias", bias_shape))
    return Part(path=f"{name}_dense", arrays=tuple(arrays), legacy="attention_output" if name == "output" else name)


def _linear(arrays: list[Array], inputs: int | None) -> nn.Linear:
    """Return a projection as a matrix: [F, N, K] into heads, or [N, K, F] out of them where ``inputs`` is None."""
    kernel = arrays[0]
    columns = inputs if inputs is not None else kernel.shape[0] * kernel.shape[1]
    matrix = torch.from_numpy(kernel.reshape(columns, -1).T.copy())
    module = nn.Linear(matrix.shape[1], matrix.shape[0], bias=len(arrays) > 1)
    with torch.no_grad():
        module.weight.copy_(matrix)
        if len(arrays) > 1:
            module.bias.copy_(torch.from_numpy(arrays[1].reshape(-1)))
    return module
