"""A file without a model card that does not fit the data: the message names ``adopt``."""

import numpy as np
import pytest
from support.onnx_files import I, lstm_model

from lstm_edge.data import load_npz
from lstm_edge.validation.judge import predict
from lstm_edge_runtime.errors import InputError

pytestmark = pytest.mark.slow


def test_a_file_without_a_card_is_to_be_adopted_first(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((8, I), np.float32), lengths=np.array([4, 4]), y=np.zeros(2, np.int64))
    sentence = (
        r"expected one to validate; the file has no model card, so its states and axes are unknown: adopt it first"
    )
    with pytest.raises(InputError, match=sentence):
        predict(lstm_model(), load_npz(tmp_path / "d.npz"))
