"""What the search for a budget may decide on: which parts of which layers, at which schemes, and what each costs."""

import dataclasses

import pytest

from lstm_edge.precision_search.candidates import is_clearly_safer
from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.space import (
    APART,
    UNIFORM,
    SearchPart,
    mix_of,
    parts_of,
    search_axes,
    search_parts,
    spelled,
    uniform,
)
from lstm_edge_exporters.quantize import LayerPart
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.errors import QuantizationError

GATES = tuple(f"lstm.{matrix}.{gate}" for matrix in "WR" for gate in "ifgo")


def layer(name, *, kind="linear", operator="MatMul", parts=(), schemes=EVERY_SCHEME, **more):
    known = {"parameters": 10, "bytes": 40, "parts": (name, *parts), "schemes": tuple(schemes)} | more
    return LayerPart(layer=name, kind=kind, operator=operator, **known)


def lstm(*more, operator="LSTM"):
    return layer("lstm", kind="recurrent", operator=operator, parts=("lstm.W", "lstm.R", *GATES, *more))


def found(layers, *, prefer="size", gates=False, pinned=None):
    return [part.part for part in search_parts(layers, prefer=prefer, gates=gates, pinned=pinned or {})]


def test_an_lstm_goes_by_its_matrices_or_gates_and_whole_for_latency() -> None:
    layers = [lstm(), layer("head")]
    assert found(layers) == ["lstm.W", "lstm.R", "head"]
    assert found(layers, gates=True) == [*GATES, "head"]
    assert found(layers, prefer="latency") == found(layers, prefer="latency", gates=True) == ["lstm", "head"]
    # Without gates of its own (a projected layer) its matrices are all there is.
    matrices = layer("lstm", kind="recurrent", operator="LSTM", parts=("lstm.W", "lstm.R", "lstm.P"))
    assert found([matrices], gates=True) == ["lstm.W", "lstm.R", "lstm.P"]


def test_other_layers_go_whole() -> None:
    assert found([lstm(operator="GRU")]) == ["lstm"]
    assert found([layer("lstm", kind="recurrent", operator="LSTM")], gates=True) == ["lstm"]


def test_a_whole_recurrent_layer_can_have_w_and_r_apart() -> None:
    """For latency, and where a layer is not split for size either; a fixed matrix keeps its scheme."""

    def schemes(row, prefer="size", **pinned):
        return search_parts([row, layer("head")], prefer=prefer, gates=False, pinned=pinned)[0].schemes

    gru = layer("gru", kind="recurrent", operator="GRU", parts=("gru.W", "gru.R"))
    apart = ("float16", "int8", *APART, "int4:32:zero", "int4:32", "int4:128")
    assert schemes(gru) == schemes(gru, "latency") == schemes(lstm(), "latency") == apart
    assert not set(APART) & set(schemes(lstm()))
    assert not set(APART) & set(search_parts([gru], prefer="size", gates=False, pinned={"gru.W": "int8"})[0].schemes)
    few = layer("gru", kind="recurrent", operator="GRU", parts=("gru.W", "gru.R"), schemes=(Scheme(kind="int8"),))
    assert schemes(few) == ("int8",)
    assert spelled("gru", APART[0]) == {"gru": "int4:128", "gru.W": "int8"}
    assert spelled("gru", "int8") == {"gru": "int8"}
    assert spelled("gru", "float32") == {}


def test_what_is_not_one_operator_with_a_fixed_matrix_is_no_choice_for_latency() -> None:
    def schemes(prefer, **pinned):
        return search_parts([lstm(), layer("head")], prefer=prefer, gates=False, pinned=pinned)[0].schemes

    assert schemes("latency", **{"lstm.W": "int4:32"}) == ("int8", "int4:32:zero", "int4:32", "int4:128")
    assert schemes("latency", **{"lstm.W": "float16"}) == ("float16",)
    assert schemes("size", **{"lstm.W": "int4:32"}) == ("float16", "int8", "int4:32:zero", "int4:32", "int4:128")
    # The matrix of another layer whose name begins alike says nothing.
    assert set(APART) < set(schemes("latency", **{"lstm2.W": "float16"}))


def test_w_and_r_apart_are_found_again_in_a_mix() -> None:
    part = SearchPart(part="gru", layer="gru", kind="recurrent", schemes=("int8", *APART))
    alone = {
        ("gru", scheme): evaluation("gru", "int8", saved=n, value=n) for n, scheme in enumerate(part.schemes, start=1)
    }
    axes = search_axes([part], alone, base=evaluation(), prefer="size", allowed=1.0)
    assert parts_of((2,), axes, {"head": "int8"}) == {"head": "int8", "gru": "int4:128", "gru.W": "int8"}
    assert [mix_of(parts_of((number,), axes, {}), axes) for number in range(4)] == [(0,), (1,), (2,), (3,)]
    assert mix_of({"gru": "int4:128"}, axes) is None


def test_the_precision_of_a_layer_is_that_of_its_coarser_matrix_and_sparse_is_as_fine_as_dense() -> None:
    part = SearchPart(part="gru", layer="gru", kind="recurrent", schemes=("int8",))

    def finer(one, other):
        found = [
            Evaluation(number=1, stage="search", parts=parts, bytes=1, saved=0, step_us=None, has_loss=False)
            for parts in (one, other)
        ]
        return is_clearly_safer(*found, [part])

    assert finer({"gru.W": "int8", "gru.R": "int8:sparse"}, {"gru": "int4:128"})
    assert not finer({"gru": "int4:128", "gru.W": "int8"}, {"gru": "int4:128"})
    assert finer({"gru": "float16"}, {"gru": "int8:sparse"})
    assert not finer({"gru": "int8"}, {"gru": "int8:sparse"})


def test_int8_is_expected_to_take_what_its_blocks_take() -> None:
    """W alone in int8 is dense, because R beside it is float32."""
    matrices = ("lstm.W", "lstm.R")
    row = layer("lstm", kind="recurrent", operator="LSTM", parts=matrices, sparse_savings={"lstm.R": 30})
    parts = search_parts([row], prefer="size", gates=False, pinned={})
    assert [part.sparse_saving for part in parts] == [0, 30]
    alone = {
        (name, scheme): evaluation(name, scheme, saved=saved, value=saved)
        for name in ("lstm.W", "lstm.R")
        for scheme, saved in (("int8", 60), ("int4:128", 80))
    }
    w, r = search_axes(parts, alone, base=evaluation(), prefer="size", allowed=1.0)
    assert [(o.scheme, o.cost) for o in w.options] == [("float32", 0.0), ("int8", -60.0), ("int4:128", -80.0)]
    assert [(o.scheme, o.cost) for o in r.options] == [("float32", 0.0), ("int8", -90.0), ("int4:128", -80.0)]


def test_the_schemes_are_those_of_the_layer_from_fine_to_coarse() -> None:
    [part] = search_parts([layer("head")], prefer="size", gates=False, pinned={})
    assert part == SearchPart(
        part="head",
        layer="head",
        kind="linear",
        schemes=("float16", "int8", "int4:32:zero", "int4:32", "int4:128"),
    )
    some = layer("head", schemes=(Scheme(kind="int4", block=32), Scheme(kind="float32"), Scheme(kind="float16")))
    [part] = search_parts([some], prefer="size", gates=False, pinned={})
    assert part.schemes == ("float16", "int4:32")
    # One that stays float32 is nothing to decide on.
    assert found([layer("stays", schemes=(Scheme(kind="float32"),)), layer("head")]) == ["head"]


def test_what_was_pinned_is_left_out_with_all_that_is_below_it() -> None:
    layers = [lstm(), layer("lstm2"), layer("head")]
    assert found(layers, pinned={"lstm": "int8"}) == ["lstm2", "head"]
    assert found(layers, pinned={"lstm.W": "int8", "head": "int4"}) == ["lstm.R", "lstm2"]
    assert found(layers, gates=True, pinned={"lstm.R": "int8"}) == [*GATES[:4], "lstm2", "head"]
    with pytest.raises(QuantizationError, match=r"^the model has no layer that the search could quantize and that"):
        found(layers, pinned={"lstm": "int8", "lstm2": "int8", "head": "int8"})


def evaluation(part="", scheme="", *, saved=0, step_us=10.0, drop=None, high=0.0, snr_db=40.0, value=1.0):
    known = {"number": 1, "stage": "sensitivity", "parts": {part: scheme} if part else {}, "bytes": 1000 - saved}
    return Evaluation(**known, saved=saved, step_us=step_us, drop=drop, high=high, snr_db=snr_db, value=value)


def axes_of(alone, *, prefer="size", base=None, allowed=1.0, kind="linear"):
    by_part = {}
    for one in alone:
        [(part, scheme)] = one.parts.items()
        by_part.setdefault(part, []).append(scheme)
    parts = [SearchPart(part=p, layer=p, kind=kind, schemes=tuple(schemes)) for p, schemes in by_part.items()]
    known = {next(iter(one.parts.items())): one for one in alone}
    return search_axes(parts, known, base=base or evaluation(), prefer=prefer, allowed=allowed)


def test_a_cost_is_what_the_base_and_the_part_alone_differ_by() -> None:
    base = evaluation(saved=100, step_us=50.0)
    alone = [
        evaluation("head", "int8", saved=160, step_us=40.0, value=0.9),
        evaluation("head", "int4", saved=180, step_us=45.5, value=0.8),
    ]
    [axis] = axes_of(alone, base=base)
    assert (axis.part, axis.layer) == ("head", "head")
    assert [(o.scheme, o.cost) for o in axis.options] == [("float32", 0.0), ("int8", -60.0), ("int4", -80.0)]
    [axis] = axes_of(alone, base=base, prefer="latency")
    assert [o.cost for o in axis.options] == [0.0, -10.0, -4.5]


def test_a_loss_is_the_drop_and_a_hundredth_of_the_budget_by_the_noise() -> None:
    alone = [
        evaluation("a", "int8", saved=1, drop=0.5, snr_db=20.0),
        evaluation("a", "int4", saved=2, drop=-3.0, snr_db=10.0),
        evaluation("b", "int8", saved=3, drop=None, snr_db=None),
    ]
    first, second = axes_of(alone, allowed=2.0)
    # The loudest is at 10 dB; 20 dB are a tenth of it. A gain counts as no loss, equal outputs as no noise.
    assert [o.loss for o in first.options] == [0.0, pytest.approx(0.5 + 0.02 / 10), pytest.approx(0.02)]
    assert [o.loss for o in second.options] == [0.0, 0.0]


def test_parts_without_noise_divide_by_nothing() -> None:
    [axis] = axes_of([evaluation("a", "int8", saved=1, drop=0.25, snr_db=None)])
    assert [o.loss for o in axis.options] == [0.0, 0.25]


def test_what_was_not_measured_is_no_option_and_a_part_without_any_no_axis() -> None:
    parts = [SearchPart(part=p, layer=p, kind="linear", schemes=("float16", "int8")) for p in "ab"]
    axes = search_axes(
        parts, {("b", "int8"): evaluation("b", "int8", saved=5)}, base=evaluation(), prefer="size", allowed=1.0
    )
    assert [(axis.part, [o.scheme for o in axis.options]) for axis in axes] == [("b", ["float32", "int8"])]
    assert search_axes(parts, {}, base=evaluation(), prefer="size", allowed=1.0) == ()


@pytest.mark.parametrize(
    ("high", "kind", "joins"),
    [
        (0.2, "convolution", True),
        (0.201, "convolution", False),
        (None, "convolution", False),
        (0.3, "linear", True),
        (None, "linear", True),
    ],
)
def test_a_convolution_joins_where_its_bound_is_a_tenth_of_the_budget(high, kind, joins) -> None:
    axes = axes_of([evaluation("conv", "int8", saved=5, high=high)], allowed=2.0, kind=kind)
    assert len(axes) == joins


def test_names_of_one_rounding_are_kept_in_order_and_differing_answers_apart() -> None:
    same = [evaluation("a", scheme, saved=9, value=0.5) for scheme in ("int4:32:zero", "int4:32", "int4:128")]
    [axis] = axes_of([*same[:1], evaluation("a", "int8", saved=9, value=0.6), *same[1:]])
    assert [(o.scheme, o.also) for o in axis.options] == [
        ("float32", ()),
        ("int4:32:zero", ("int4:32", "int4:128")),
        ("int8", ()),
    ]
    differing = [
        evaluation("a", "int8", saved=9, value=0.5, snr_db=40.0),
        evaluation("a", "int4", saved=9, value=0.5, snr_db=41.0),
        evaluation("a", "int4:128", saved=8, value=0.5, snr_db=41.0),
    ]
    [axis] = axes_of(differing)
    assert len(axis.options) == 4


def test_a_mix_and_its_parts_are_the_same_thing() -> None:
    alone = [evaluation(part, s, saved=n, value=n) for part in "ab" for n, s in enumerate(("int8", "int4"), 1)]
    axes = axes_of(alone)
    for mix in ((0, 0), (1, 0), (2, 1), (2, 2)):
        assert mix_of(parts_of(mix, axes, {"head": "int8"}), axes) == mix
    assert parts_of((0, 0), axes, {}) == {}
    assert parts_of((1, 2), axes, {"head": "int8"}) == {"head": "int8", "a": "int8", "b": "int4"}
    assert mix_of({"a": "float16"}, axes) is None


def test_the_baselines_are_schemes_from_fine_to_coarse() -> None:
    sizes = {"float16": 16, "int8": 8, "int4": 4}
    kinds = [Scheme.parse(text).kind for text in UNIFORM]
    assert kinds == sorted(sizes, key=sizes.__getitem__, reverse=True)


def test_one_scheme_throughout_leaves_out_convolutions_and_what_was_not_found() -> None:
    parts = [
        SearchPart(part=name, layer=name, kind=kind, schemes=("int8",))
        for name, kind in (("a", "linear"), ("conv", "convolution"), ("b", "recurrent"))
    ]
    alone = {(name, "int8"): evaluation(name, "int8") for name in ("a", "conv")}
    assert uniform(parts, "int8", {"head": "int4"}, alone) == {"head": "int4", "a": "int8"}
    assert uniform(parts, "float16", {}, alone) == {}


def test_the_lowest_latency_tries_fixed_activation_scales_of_convolutions():
    row = dataclasses.replace(layer("conv"), kind="convolution", operator="Conv", parts=("conv",))
    for prefer, expected in (("latency", True), ("size", False)):
        [part] = search_parts([row], prefer=prefer, gates=False, pinned={})
        assert ("int8:static" in part.schemes) is expected
