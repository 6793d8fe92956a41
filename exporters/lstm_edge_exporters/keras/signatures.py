"""The arguments of Keras's layers by name, in order; ``mask`` among them says that the layer looks at masks."""

from lstm_edge_exporters.keras.config import MODELS

__all__ = ["signature_of"]

RECURRENT = ("sequences", "initial_state", "mask", "training")
ATTENTION = ("inputs", "mask", "training", "return_attention_scores", "use_causal_mask")
MULTI_HEAD = (
    "query",
    "value",
    "key",
    "query_mask",
    "value_mask",
    "key_mask",
    "attention_mask",
    "return_attention_scores",
    "training",
    "use_causal_mask",
)
LOOKS_AT_MASK = ("inputs", "training", "mask")
SIGNATURES = {
    "LSTM": RECURRENT,
    "GRU": RECURRENT,
    "SimpleRNN": RECURRENT,
    "Bidirectional": RECURRENT,
    "Attention": ATTENTION,
    "AdditiveAttention": ATTENTION,
    "MultiHeadAttention": MULTI_HEAD,
    "BatchNormalization": LOOKS_AT_MASK,
    "TimeDistributed": LOOKS_AT_MASK,
    "Softmax": ("inputs", "mask"),
    "GlobalAveragePooling1D": ("inputs", "mask"),
    **dict.fromkeys(MODELS, LOOKS_AT_MASK),
}


def signature_of(class_name: str) -> tuple[str, ...]:
    """Return the names of the arguments of a layer; of a wrapped one its own."""
    return SIGNATURES.get(class_name.rpartition(" of ")[2], ("inputs",))
