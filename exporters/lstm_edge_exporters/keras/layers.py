"""Which function reads which class of layer; whatever has none is refused by the layer's name and class."""

from collections.abc import Callable

from lstm_edge_exporters.keras.activations import LAYERS as ACTIVATION_LAYERS
from lstm_edge_exporters.keras.attention import build_attention, build_multi_head_attention
from lstm_edge_exporters.keras.convolution import build_convolution, build_depthwise, build_separable
from lstm_edge_exporters.keras.dense import (
    TRAINING_ONLY,
    build_activation,
    build_activation_layer,
    build_dense,
    build_embedding,
    build_masking,
    build_prelu,
    build_training_only,
)
from lstm_edge_exporters.keras.einsum import build_einsum_dense
from lstm_edge_exporters.keras.merging import ELEMENTWISE, build_concatenate, build_dot, build_elementwise
from lstm_edge_exporters.keras.normalization import (
    build_batch_normalization,
    build_group_normalization,
    build_layer_normalization,
    build_normalization,
    build_rescaling,
)
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.pooling import build_global_pooling, build_pooling
from lstm_edge_exporters.keras.recurrent_layers import build_bidirectional, build_recurrent
from lstm_edge_exporters.keras.reshaping import (
    build_cropping,
    build_flatten,
    build_permute,
    build_repeat_vector,
    build_reshape,
    build_up_sampling,
    build_zero_padding,
)
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.time_distributed import build_time_distributed
from lstm_edge_exporters.keras.transposed import build_transposed
from lstm_edge_runtime.errors import CaptureError

__all__ = ["BUILDERS", "build_layer"]


def build_layer(options: Options, source: Source) -> Built:
    """Build a layer.

    Raises:
        CaptureError: it is of a class, or has an option, that is not exported.
        ArtifactError: its weights are missing or not those that its options ask for.
    """
    builder = BUILDERS.get(options.kind)
    if builder is None:
        raise _unknown(options)
    return builder(options, source)


def _unknown(options: Options) -> CaptureError:
    return options.refuse(
        f"layers of this class are not exported; these are: {', '.join(sorted(BUILDERS))}. "
        "A Lambda or a custom class contains code, which is never run"
    )


BUILDERS: dict[str, Callable[[Options, Source], Built]] = {
    "Embedding": build_embedding,
    "Masking": build_masking,
    "LSTM": build_recurrent,
    "GRU": build_recurrent,
    "SimpleRNN": build_recurrent,
    "Bidirectional": build_bidirectional,
    "TimeDistributed": build_time_distributed,
    "Dense": build_dense,
    "Activation": build_activation,
    "PReLU": build_prelu,
    "EinsumDense": build_einsum_dense,
    "BatchNormalization": build_batch_normalization,
    "GroupNormalization": build_group_normalization,
    "LayerNormalization": build_layer_normalization,
    "Normalization": build_normalization,
    "Rescaling": build_rescaling,
    "Conv1D": build_convolution,
    "Conv2D": build_convolution,
    "Conv1DTranspose": build_transposed,
    "Conv2DTranspose": build_transposed,
    "DepthwiseConv1D": build_depthwise,
    "DepthwiseConv2D": build_depthwise,
    "SeparableConv1D": build_separable,
    "SeparableConv2D": build_separable,
    **{f"{kind}Pooling{axes}": build_pooling for kind in ("Max", "Average") for axes in ("1D", "2D")},
    **{f"Global{kind}Pooling{axes}": build_global_pooling for kind in ("Max", "Average") for axes in ("1D", "2D")},
    "Flatten": build_flatten,
    "Reshape": build_reshape,
    "Permute": build_permute,
    "RepeatVector": build_repeat_vector,
    **{f"ZeroPadding{axes}": build_zero_padding for axes in ("1D", "2D")},
    **{f"Cropping{axes}": build_cropping for axes in ("1D", "2D")},
    **{f"UpSampling{axes}": build_up_sampling for axes in ("1D", "2D")},
    **dict.fromkeys(ELEMENTWISE, build_elementwise),
    "Concatenate": build_concatenate,
    "Dot": build_dot,
    "Attention": build_attention,
    "AdditiveAttention": build_attention,
    "MultiHeadAttention": build_multi_head_attention,
    **dict.fromkeys(ACTIVATION_LAYERS, build_activation_layer),
    **dict.fromkeys(TRAINING_ONLY, build_training_only),
}
