"""What other libraries log and warn of while a file is read and rewritten does not reach the user's terminal."""

import logging
import threading
import warnings

import onnx
import pytest
from onnx import helper
from support.onnx_files import FLOAT, model, weights

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.onnx_graph.quiet import LOGGERS, quiet
from lstm_edge_exporters.quantize import quantize_bytes


def foreign():
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], hidden_size=5)
    arrays = {name: array for name, array in weights(1).items() if name != "P"}
    return model([node], {"x": (FLOAT, ["T", "B", 3])}, {"Y": ["T", 1, "B", 5]}, arrays)


@pytest.mark.parametrize("make", [adopt_bytes, quantize_bytes])
def test_a_failed_shape_inference_leaves_no_traceback_on_the_terminal(make, monkeypatch, capfd, caplog):
    calls = []

    def fail(*_arguments, **_options):
        calls.append(1)
        logging.getLogger("onnxscript.optimizer").warning("onnxscript says something")
        raise onnx.shape_inference.InferenceError("[ShapeInferenceError] Inferred shape and existing shape differ")

    data = foreign()
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fail)
    make(data)
    assert calls or make is quantize_bytes
    captured = capfd.readouterr()
    assert (captured.out, captured.err, caplog.text) == ("", "", "")


def test_levels_and_filters_come_back_when_the_last_thread_leaves():
    before = [logging.getLogger(name).level for name in LOGGERS], list(warnings.filters)
    inside, leave = threading.Barrier(3), [threading.Event() for _ in range(2)]

    def work(number):
        with quiet(), quiet():
            inside.wait()
            leave[number].wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    for number in range(2):
        assert all(logging.getLogger(name).level == logging.CRITICAL for name in LOGGERS), number
        leave[number].set()
        threads[number].join()
    assert before == ([logging.getLogger(name).level for name in LOGGERS], list(warnings.filters))


def test_an_error_inside_puts_them_back_too():
    with pytest.raises(ValueError, match="x"), quiet():
        raise ValueError("x")
    assert logging.getLogger("onnx_ir").level != logging.CRITICAL


def test_our_own_warnings_are_heard():
    with quiet(), pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)
    code = compile("import warnings\nwarnings.warn('theirs')", "x", "exec")
    with quiet():
        exec(code, {"__name__": "onnx_ir.passes"})
