"""What cannot be exported is refused with a sentence that names the culprit and says what to change."""

import numpy as np
import pytest
import torch
from support.networks import build, seeded
from torch import Tensor, nn

from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.errors import CaptureError, InputError
from lstm_edge_runtime.session import Session

EXAMPLE = torch.linspace(-1, 1, 2 * 5 * 3).reshape(2, 5, 3)


def refusal(module: nn.Module, *arguments, **options) -> str:
    with pytest.raises(CaptureError) as caught:
        build(module, *(arguments or (EXAMPLE,)), **options)
    return str(caught.value)


class Around(nn.Module):
    """A network around one LSTM; tests give it a forward."""

    def __init__(self, recurrent: nn.Module | None = None) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True) if recurrent is None else recurrent
        self.eval()


def test_no_module_and_no_input() -> None:
    assert refusal("a path") == "export takes a torch.nn.Module, got str"  # type: ignore[arg-type]  # on purpose
    assert refusal(Around(), None) == (
        'the inputs are not described: give an example input, or inputs=["x: float32[batch, time, 40]"]'
    )


def test_training_mode_names_the_module() -> None:
    assert refusal(Around().train()) == "the module is in training mode: call .eval() on the module before export"
    module = Around()
    module.rnn.train()
    assert refusal(module).startswith("rnn is in training mode")


def test_no_recurrent_layer() -> None:
    message = refusal(nn.Linear(3, 4).eval())
    assert message == (
        "the module has no recurrent layer (nn.LSTM, nn.GRU, nn.RNN, their cells, lstm_edge.LSTM): there is nothing to "
        "keep whole. A cell of your own, in a loop that you wrote, is exported when its step is wrapped as "
        "lstm_edge.Recurrent(step, ...)"
    )


def test_double_precision_names_the_weight() -> None:
    assert refusal(Around().double(), EXAMPLE.double()) == (
        "rnn.weight_ih_l0 is torch.float64 on cpu: expected float32 on the CPU, "
        "call .float().cpu() on the module before export"
    )


def test_other_recurrent_layers_are_named() -> None:
    class Third(nn.RNNCellBase):
        def __init__(self) -> None:
            super().__init__(3, 5, True, 1)

    class Other(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    assert ".Third is a recurrent layer of a kind that this version does not export: use nn.LSTM" in refusal(
        Other(Third())
    )


def test_a_layer_called_as_often_as_the_data_say() -> None:
    class AsOften(Around):
        def forward(self, x: Tensor) -> Tensor:
            y = self.rnn(x)[0]
            for _ in range(x.shape[1] // 5):
                y = y + self.rnn(-x)[0]
            return y

    message = refusal(AsOften())
    assert message.startswith("rnn: forward starts this layer again 2 times in 7 steps and 3 times in 11 (")
    assert message.endswith("how often must not depend on the number of steps")


def test_a_layer_never_called() -> None:
    class Never(Around):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.LSTM(3, 4, batch_first=True)
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    sentence = "unused: forward never calls this recurrent layer; remove it from the module"
    assert refusal(Never()) == sentence
    assert refusal(Never(), EXAMPLE, state="hidden") == sentence


class OwnState(Around):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.full((1, 1, 5), 0.3))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        state = self.first.expand(1, x.shape[0], 5).contiguous()
        return self.rnn(x, (state, state * 2))[0]


def test_an_initial_state_of_its_own() -> None:
    message = refusal(seeded(OwnState()))
    assert message.startswith(
        "rnn: forward passes its own initial state to the layer, so the state cannot be made explicit ("
        "test_capture_refusals.py:"
    )
    assert message.endswith(
        "\"return self.rnn(x, (state, state * 2))[0]\"); remove it from forward, or export with states='hidden'"
    )


@pytest.mark.slow
def test_an_initial_state_of_its_own_is_kept_where_the_state_is_hidden() -> None:
    module = seeded(OwnState())
    session = Session(build(module, EXAMPLE, state="hidden").data)
    x = torch.randn(4, 9, 3)
    with torch.no_grad():
        expected = module(x).numpy()
    assert np.abs(session.run(x.numpy())[0]["output"] - expected).max() < EXPORT.absolute


@pytest.mark.slow
def test_control_flow_that_depends_on_data(capfd: pytest.CaptureFixture[str]) -> None:
    class Branch(Around):
        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.rnn(x)
            return y if bool(y.sum() > 0) else -y

    message = refusal(Branch())
    assert message.startswith("torch.export cannot capture the module at test_capture_refusals.py:")
    assert '"return y if bool(y.sum() > 0) else -y": ' in message
    assert message.endswith(
        "look for control flow that depends on data, and for a dynamic axis whose size the module fixes"
    )
    assert "\n" not in message
    assert "".join(capfd.readouterr()) == ""  # torch prints half a graph


def test_a_module_that_fixes_the_length() -> None:
    class Fixed(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0].reshape(x.shape[0], 35)

    message = refusal(Fixed())
    assert message.startswith("the module itself fails on x [3, 11, 3]: RuntimeError: ")


def test_a_wrong_result() -> None:
    class Text(Around):
        def forward(self, x: Tensor) -> tuple:
            return self.rnn(x)[0], "done"

    class Nothing(Around):
        def forward(self, x: Tensor) -> tuple:
            return self.rnn(x)[1]

    assert refusal(Text()) == (
        "forward returned a str: expected tensors, or tuples, lists, dicts, named tuples or dataclasses of them"
    )
    assert refusal(Nothing()) == ("forward returned no tensor besides recurrent states: return what the model computes")


def test_examples_that_do_not_fit() -> None:
    class Plain(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    module = Plain()
    assert refusal(module, torch.randn(3)) == (
        "example input x has shape (3,): expected [batch, time, ...]; give inputs=[...] to say which axis is which"
    )
    assert refusal(module, EXAMPLE.double()) == (
        "example input x is float64: expected one of float32, int64, int32, bool"
    )
    assert refusal(module, (EXAMPLE, EXAMPLE)) == "2 example inputs for forward(x)"
    # The module itself says what is wrong with another width, in torch's words.
    assert refusal(module, torch.randn(2, 5, 4)).startswith("the module itself fails on x [3, 7, 4]: RuntimeError: ")


@pytest.mark.slow
def test_layouts_that_disagree() -> None:
    class Mixed(Around):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.LSTM(5, 4)
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            return self.other(self.rnn(x)[0].transpose(0, 1))[0]

    # The layers alone do not say where batch and time are (test_inputs.py); running the module does.
    session = Session(build(seeded(Mixed()), EXAMPLE).data)
    assert session.inputs[0].axes == ("batch", "time", 3)
    assert [spec.axes for spec in session.outputs] == [("time", "batch", 4)]


class Echo(Around):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x": self.rnn(x)[0], "sum": x.sum()}


@pytest.mark.slow
def test_output_names() -> None:
    module = seeded(Echo())
    twice = "the output name {!r} is given twice, or is the name of an input or a state too: give output_names"
    assert refusal(module, EXAMPLE, output_names=["a", "a"]) == twice.format("a")
    assert refusal(module, EXAMPLE, output_names=["a", "rnn.0.h_out"]) == twice.format("rnn.0.h_out")
    assert refusal(module, EXAMPLE, output_names=["a"]) == "got 1 output names for 2 outputs: x, sum"
    assert [spec.name for spec in Session(build(module, EXAMPLE).data).outputs] == ["x_out", "sum"]
    session = Session(build(module, EXAMPLE, output_names=["y", "total"]).data)
    assert [(spec.name, spec.axes) for spec in session.outputs] == [("y", ("batch", "time", 5)), ("total", ())]


def test_an_input_called_lengths() -> None:
    class Lengthy(Around):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.rnn(x)[0] * lengths.reshape(-1, 1, 1)

    inputs = ["x: float32[batch, time, 3]", "lengths: int64[batch]"]
    with pytest.raises((CaptureError, InputError), match="lengths"):
        build(Lengthy(), None, inputs=inputs, lengths=True)


def test_a_wrong_dtype_for_an_embedding_is_the_modules_own_error() -> None:
    class Ids(Around):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 3)
            self.eval()

        def forward(self, ids: Tensor) -> Tensor:
            return self.rnn(self.embedding(ids))[0]

    message = refusal(Ids(), None, inputs=["ids: float32[batch, time]"])
    assert message.startswith("the module itself fails on ids [3, 7]: RuntimeError: ")


@pytest.mark.parametrize("window", ["stft", "centred", "convolution"])
@pytest.mark.parametrize("axis", ["samples", "time"])
def test_a_window_that_is_longer_than_the_axis_says_what_to_do(window: str, axis: str) -> None:
    class Samples(Around):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv1d(1, 3, 400, 160)
            self.eval()

        def forward(self, audio: Tensor) -> Tensor:
            if window == "convolution":
                return self.rnn(self.convolution(audio[:, None]).transpose(1, 2))[0]
            spectrum = torch.stft(audio, 400, 160, torch.ones(400), center=window == "centred", return_complex=True)
            return self.rnn(spectrum.abs()[:, :3].transpose(1, 2))[0]

    message = refusal(Samples(), None, inputs=[f"audio: float32[batch, {axis}]"])
    assert message.startswith("the module itself fails on audio [3, ")
    assert message.endswith(
        ". The module needs a longer axis. Give that axis a number instead of a name; or pad it in front within "
        "forward; or, for mel bands or cepstra of sound, export the module behind them with --front-end (docs/audio.md)"
    )


def test_an_argument_without_an_input_is_named() -> None:
    class Three(Around):
        def forward(self, x: Tensor, gain: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
            return self.rnn(x * gain * mask * scale)[0]

    x = "x: float32[batch, time, 3]"
    advice = 'give one for each argument, in order, or name the parts of an argument, as in "state.0" and "state.1"'
    assert refusal(Three(), None, inputs=[x]) == (
        f"Three: 1 input (x) for forward(x, gain, mask, scale), which also requires gain, mask: {advice}"
    )
    # By name, as soon as one is out of order.
    assert refusal(Three(), None, inputs=[x, x.replace("x", "mask", 1)]) == (
        f"Three: 2 inputs (x, mask) for forward(x, gain, mask, scale), which also requires gain: {advice}"
    )


def test_more_examples_than_inputs() -> None:
    examples = {"x": EXAMPLE, "y": EXAMPLE}

    class Two(Around):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return self.rnn(x)[0]

    assert refusal(Two(), examples, inputs=["x: float32[batch, time, 3]"]) == (
        "2 example inputs (x, y) for 1 input (x): give one for each; targets are not inputs"
    )


@pytest.mark.slow
def test_a_tuple_of_states_as_one_argument() -> None:
    class Given(Around):
        def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return self.rnn(x, state)

    states = [f"{name}: float32[1, batch, 5]" for name in "hc"]
    assert refusal(Given(), None, inputs=["x: float32[batch, time, 3]", *states]) == (
        "Given: 3 inputs (x, h, c) for forward(x, state): give one for each argument, in order, or name the "
        'parts of an argument, as in "state.0" and "state.1"'
    )
    state = torch.zeros(1, 2, 5)
    assert refusal(Given(), (EXAMPLE, 3)) == (
        "example input state is of type int, expected a torch.Tensor, or a dict, tuple, list, named tuple or dataclass "
        "of tensors"
    )
    session = Session(build(Given(), (EXAMPLE, (state, state))).data)
    assert [spec.input for spec in session.states] == ["state_0", "state_1"]


@pytest.mark.slow
def test_the_module_is_left_as_it_was() -> None:
    module = seeded(Echo())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    build(module, EXAMPLE, output_names=["y", "total"])
    assert type(module.rnn) is nn.LSTM
    assert not module.rnn._forward_hooks
    assert not module.rnn._forward_pre_hooks
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
