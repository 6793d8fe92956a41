"""The rewritten graph of a foreign file while it is being described: axes, states, outputs, comparison, card."""

import dataclasses
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from lstm_edge_exporters.adopt.answer import copy_answer
from lstm_edge_exporters.adopt.axes import find_axes, measure_outputs
from lstm_edge_exporters.adopt.describe import card_layers, judge, known_streaming, output_marks
from lstm_edge_exporters.adopt.find import find_layers
from lstm_edge_exporters.adopt.recognize import recognize_states, trial_sizes
from lstm_edge_exporters.adopt.sequence import check_sequence, timed, wrap_in_scan
from lstm_edge_exporters.adopt.state_values import idle_states, with_domains
from lstm_edge_exporters.adopt.steps import layers_over_time
from lstm_edge_exporters.adopt.trial import Trial, length_inputs, scalar_values
from lstm_edge_exporters.artifact import (
    MINIMUM_ONNXRUNTIME,
    own_version,
)
from lstm_edge_exporters.labels import check_labels
from lstm_edge_exporters.onnx_graph.reading import read_proto
from lstm_edge_exporters.onnx_graph.writing import draft, serialize
from lstm_edge_exporters.quantize import smallest_table
from lstm_edge_exporters.streaming.attempt import attempt
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.verify.calls import check_calls
from lstm_edge_exporters.verify.cases import Comparison
from lstm_edge_exporters.verify.chunks import judge_streaming
from lstm_edge_exporters.verify.file_parity import Original, check_chunks, check_file_parity
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME, ModelCard, Parity, StateSpec, Streaming, Task, TensorSpec
from lstm_edge_runtime.errors import ArtifactError, InputError

__all__ = ["Subject"]


class Subject:
    """The rewritten graph while it is being described: what is known about it so far."""

    def __init__(self, model: ir.Model, made: tuple[StateSpec, ...], ranges: Mapping[str, tuple[float, ...]]) -> None:
        self.model, self.made, self.ranges = model, made, ranges
        self.ids_below = smallest_table(model)
        self.scalars = scalar_values(model)
        self.task: Task = "generic"
        self.labels: tuple[str, ...] | None = None
        self.undetermined: tuple[str, ...] = ("the task, labels and vocabulary: the file does not say them",)

    def find(self, named: Mapping[str, str]) -> None:
        """Find axes, states, lengths and outputs."""
        axes = find_axes(self.model, scalars=self.scalars, ids_below=self.ids_below, ranges=self.ranges)
        self.data: bytes = draft(self.model).SerializeToString(deterministic=True)
        recognized, sentences = recognize_states(
            self.data,
            axes.inputs,
            named=named,
            known=self.made,
            scalars=self.scalars,
            ids_below=self.ids_below,
        )
        self.recognized, more = self._that_matter(recognized, axes.inputs, named)
        sentences += more
        self.states = (*self.recognized, *self.made)
        entering = {spec.input for spec in self.states}
        self.lengths, self.ragged, more = self._lengths(axes.inputs)
        self.all_inputs = axes.inputs
        self.inputs = tuple(s for s in axes.inputs if s.name not in entering and s.name != self.lengths)
        self.undetermined += axes.undetermined + sentences + more
        self._measure()

    def _that_matter(
        self, recognized: tuple[StateSpec, ...], inputs: Sequence[TensorSpec], named: Mapping[str, str]
    ) -> tuple[tuple[StateSpec, ...], tuple[str, ...]]:
        """The states that change an answer, and a sentence for each other one that was recognized.

        Raises:
            InputError: the user named one that changes none.
            ArtifactError: one that was made explicit changes none.
        """
        trial = Trial(self.data, scalars=self.scalars, ids_below=self.ids_below)
        sizes = trial_sizes(inputs)
        recognized = with_domains(trial, inputs, sizes, recognized)
        idle = idle_states(trial, inputs, sizes, (*recognized, *self.made))
        sentences = []
        for spec in idle:
            what = f"the state {spec.input!r}, which leaves by {spec.output!r}, changes no output but states"
            if spec in self.made:
                raise ArtifactError(
                    f"{what}: the layer {spec.module!r} has no part in the answer; adopt without --stateful"
                )
            if spec.input in named:
                raise InputError(f"--state {spec.input}={spec.output}: {what}, so nothing would be streamed by it")
            sentences.append(f"{what}: it stays an ordinary input and output")
        return tuple(spec for spec in recognized if spec not in idle), tuple(sentences)

    def _lengths(self, inputs: Sequence[TensorSpec]) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
        """Return the int64 [batch] input of lengths, all inputs of lengths, and sentences on those of another form."""
        names = length_inputs(self.model)
        specs = {spec.name: spec for spec in inputs}
        fitting = [n for n in names if specs[n].dtype == "int64" and len(specs[n].axes) == 1]
        lengths = fitting[0] if len(names) == 1 and fitting and any(TIME in s.axes for s in inputs) else None
        return (
            lengths,
            names,
            tuple(
                f"input {name!r} holds valid lengths, {specs[name].dtype} {list(specs[name].axes)}: it stays an "
                "ordinary input, as a card's lengths are int64 [batch]"
                for name in names
                if name != lengths
            ),
        )

    def _measure(self) -> None:
        leaving = {spec.output for spec in self.states}
        names = [str(value.name) for value in self.model.graph.outputs if value.name not in leaving]
        if not names:
            first, names = self.model.graph.outputs[0].name, [copy_answer(self.model)]
            self.data = serialize(self.model)
            self.undetermined += (
                f"which output is the answer: all are states, so {first!r} leaves a second time, as {names[0]!r}",
            )
        trial = Trial(self.data, scalars=self.scalars, ids_below=self.ids_below)
        self.outputs, sentences = measure_outputs(trial, self.all_inputs, names)
        self.undetermined += sentences
        output_marks(self.model, self.outputs, self.states)
        self.data = serialize(self.model)
        self.makers = [
            InputMaker(self.inputs, ids_below=self.ids_below, values=values, lengths=self.ragged)
            for values in trial.choices()
        ]

    def corrected(self, declared: Mapping[str, int]) -> tuple[str, ...]:
        """Return a sentence for each output whose number of axes the file declared wrongly."""
        return tuple(
            f"output {spec.name!r} was declared with {declared[spec.name]} axes and has {len(spec.axes)}: corrected"
            for spec in (*self.outputs, *(TensorSpec(name=s.output, dtype="float32", axes=s.axes) for s in self.states))
            if declared.get(spec.name, len(spec.axes)) != len(spec.axes)
        )

    def compare(self, original: Original, constants: Mapping[str, Array]) -> Comparison:
        """Compare with the original; afterwards ``maker`` makes inputs that both take."""
        makers, lengths = self.makers, self.lengths
        if lengths is not None:
            specs = [spec for spec in self.all_inputs if spec.name == lengths or spec in self.inputs]
            makers = [InputMaker(specs, ids_below=self.ids_below, values=m.values, lengths=self.ragged) for m in makers]
        self.open = OpenModel.of(self.data, foreign=True)
        found = check_file_parity(self.open, original, makers, states=self.recognized, made=self.made, fixed=constants)
        self.maker = next(maker for maker in self.makers if maker.numbers == found.ran[0].values)
        return found

    def compare_chunks(self, original: Original, constants: Mapping[str, Array], found: Comparison) -> Comparison:
        """Compare two chunks with the original's whole sequence, and note it."""
        return check_chunks(
            found,
            self.open,
            original,
            self.maker,
            outputs=self.outputs,
            states=self.recognized,
            made=self.made,
            fixed=constants,
            lengths=self.lengths,
        )

    def compare_calls(self, original: Original, constants: Mapping[str, Array], found: Comparison) -> Comparison:
        """Compare calls in a row with the original's, each with the states of the one before, and note it."""
        return check_calls(
            found, self.open, original, self.maker, states=self.recognized, fixed=constants, lengths=self.lengths
        )

    def judge(self, found: Comparison) -> Streaming:
        """Judge whether the model can be fed in chunks."""
        layers, _ = card_layers(self.model)
        return judge(
            self.open,
            self.maker,
            find_layers(self.model),
            layers,
            outputs=self.outputs,
            states=self.states,
            lengths=self.lengths,
            fewest=found.fewest_steps,
        )

    def with_caches(
        self, original: Original, constants: Mapping[str, Array], found: Comparison, streaming: Streaming
    ) -> tuple[Comparison, Streaming]:
        """Give the operations along time caches, where that is what keeps the file from being streamed.

        Returns:
            The comparison of the file with caches and how it may be streamed; where it may not be, what was given,
            with the reason.
        """
        layers, _ = card_layers(self.model)
        named = find_layers(self.model)
        if known_streaming(self.open, self.maker, named, states=self.states, lengths=self.lengths) is not None:
            return found, streaming
        timed = layers_over_time(self.open.data, self.maker, named, self.states, self.lengths)
        try:
            made = attempt(
                self.open,
                self.maker,
                outputs=self.outputs,
                states=self.states,
                layers=[layer for layer in layers if layer.name in timed],
                lengths=self.lengths,
                fewest=found.fewest_steps,
            )
        except NotStreamable as error:
            return found, dataclasses.replace(streaming, reason=str(error))
        found = check_file_parity(
            made.whole, original, [self.maker], states=self.recognized, made=self.made, fixed=constants
        )
        self.model, self.data, self.open = made.model, made.open.data, made.open
        self.outputs, self.states = made.outputs, made.states
        return found, made.streaming

    def over_time(self, streaming: Streaming) -> Streaming:
        """Become the file of a whole sequence in one call, equal to the calls in a row to the bit.

        Raises:
            ArtifactError: the file is not one of one step per call.
            ParityError: the one call differs from the calls in a row.
        """
        if streaming.verdict != "each-call":
            raise ArtifactError(
                f"--sequence is for a file of one step per call with states (streaming each-call); the streaming of "
                f"this one is {streaming.verdict}" + f": {streaming.reason}" * bool(streaming.reason)
            )
        step, self.model = self.open, read_proto(wrap_in_scan(self.model, self.inputs, self.outputs, self.states))
        self.data = serialize(self.model)
        self.open = OpenModel.of(self.data, foreign=True)
        check_sequence(self.open, step, self.maker, self.outputs, self.states)
        self.inputs, self.outputs = timed(self.inputs), timed(self.outputs)
        self.maker = self.maker.over(self.inputs)
        return judge_streaming(self.open, self.maker, outputs=self.outputs, states=self.states, layers=(), lengths=None)

    def describe(self, task: Task | None, labels: tuple[str, ...] | None) -> None:
        """Take what the user says about the model, before anything else is undetermined.

        Raises:
            InputError: no output has a column for each label.
        """
        check_labels(labels, self.outputs)
        self.task, self.labels = task or "generic", labels
        *early, last = [
            name for name, said in (("task", task), ("labels", labels), ("vocabulary", None)) if said is None
        ]
        listed = f"{', '.join(early)} and {last}" if early else last
        sentence = f"the {listed}: the file does not say {'them' if early else 'it'}"
        self.undetermined = (sentence, *self.undetermined[1:])

    def card(self, parity: Parity, streaming: Streaming) -> ModelCard:
        """Return the card with everything that is known."""
        layers, sentences = card_layers(self.model)
        if streaming.verdict != "each-call" and not any(TIME in spec.axes for spec in self.inputs):
            sentences += ("the time axis: no input has a dynamic axis that is known to be it",)
        return ModelCard(
            task=self.task,
            labels=self.labels,
            producer=f"lstm-edge {own_version()}, adopted",
            inputs=self.inputs,
            outputs=self.outputs,
            states=self.states,
            lengths=self.lengths,
            streaming=streaming,
            layers=layers,
            undetermined=self.undetermined + sentences,
            parity=parity,
            minimum_onnxruntime=MINIMUM_ONNXRUNTIME,
        )
