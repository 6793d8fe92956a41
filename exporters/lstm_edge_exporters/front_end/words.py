"""What a model card says of a front end."""

from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_runtime import card

__all__ = ["card_of", "sentence_of"]


def card_of(front_end: FrontEnd, samples: str) -> card.FrontEnd:
    """Return the front end as a card has it; ``samples`` names the input of samples."""
    return card.FrontEnd(
        input=samples,
        text=front_end.text,
        rate_hz=front_end.rate_hz,
        first=front_end.window,
        every=front_end.hop,
    )


def sentence_of(front_end: FrontEnd, samples: str) -> str:
    """Return the sentence for the card's ``preprocessing``."""
    scale = "HTK mel bands of height 1" if front_end.mel == "htk" else "Slaney mel bands of area 1"
    cepstra = f", then the first {front_end.coefficients} values of an orthonormal DCT-II" * (front_end.kind == "mfcc")
    last = front_end.window - 1
    return (
        f"{samples} are samples in [-1, 1] at {front_end.rate_hz} Hz, not features: the file computes "
        f"{front_end.text}. Frame j is samples {front_end.hop}*j to {front_end.hop}*j + {last}, without padding or "
        f"centring, times a periodic Hann window; the power of its {front_end.fft}-point DFT, in {front_end.bands} "
        f"{scale} from {front_end.low_hz:g} to {front_end.high_hz:g} Hz; the natural logarithm of at least "
        f"{front_end.floor:g}{cepstra}"
    )
