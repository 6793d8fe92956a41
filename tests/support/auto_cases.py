"""A search of three parts and three schemes, from Python and from the command line."""

from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.precision_search import BudgetRequest, quantize_to_budget
from lstm_edge_runtime.session import Session

# Three parts of the model, three schemes: 27 mixes.
SCHEMES = ("int8", "int4:32")
METRIC, DROP = "cross-entropy", "8%"


def no_timer(_data):
    return 1.0


def request(files, tmp_path, **more):
    known = {"source": files[0], "output": tmp_path / "out.onnx", "data": str(files[1]), "metric": METRIC}
    return BudgetRequest(**(known | {"max_drop": DROP, "max_evaluations": 60, "calibration_samples": 40} | more))


def search(files, tmp_path, **more):
    return quantize_to_budget(request(files, tmp_path, **more), timer=no_timer)


def command(*arguments, exit_code=0):
    """Run `lstm-edge quantize`; asserts the exit code, one sentence of error on stderr, and no traceback."""
    result = CliRunner().invoke(app, ["quantize", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if exit_code else 0), result.stderr
    return result


def clock(data):
    """Say that an int8 layer takes a unit of time, an int4 layer four, any other three."""
    quantization = Session(data).card.quantization if Session(data).card is not None else None
    schemes = [] if quantization is None else list(quantization.parts.values())
    return 20.0 - 2 * schemes.count("int8") + schemes.count("int4:32")
