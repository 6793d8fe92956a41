"""Open a model file on the device, check it and run it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.artifact import GOLDEN_KEY, TRAILER_KEY, check_integrity, read_model_bytes
from lstm_edge_runtime.calls import PreparedCalls
from lstm_edge_runtime.card import BATCH, CARD_KEY, TIME, ModelCard, StateSpec, TensorSpec, parse_card
from lstm_edge_runtime.checks import check_array, check_finite, check_frame, check_lengths, check_shapes, name_inputs
from lstm_edge_runtime.column_sums import check_column_sums
from lstm_edge_runtime.contract import read_contract
from lstm_edge_runtime.errors import ArtifactError, InputError, IntegrityError, first_line
from lstm_edge_runtime.function_check import called_operators, check_functions, check_whole
from lstm_edge_runtime.golden import Golden, decode_golden
from lstm_edge_runtime.heap import give_back_heap
from lstm_edge_runtime.library import KernelChoice, choose_library
from lstm_edge_runtime.model_reading import read_model
from lstm_edge_runtime.pool import Pool
from lstm_edge_runtime.providers import RUNTIME_ERRORS, NodePlacement, measure_placement, open_session
from lstm_edge_runtime.session_notes import collect_notes
from lstm_edge_runtime.signature import Signed, check_signature, read_trust
from lstm_edge_runtime.sparse_index import check_sparse_matrices
from lstm_edge_runtime.state import State, split_states
from lstm_edge_runtime.stepping import blocked_after, is_one_to_one
from lstm_edge_runtime.stream import Stream
from lstm_edge_runtime.watch import Metrics, WatchedStream

__all__ = ["Session"]


class Session:
    """A model file, opened on this device.

    It does not change after it was opened, so several threads may use one Session at once.

    Attributes:
        card: the model card, or None for a file without one.
        inputs: what ``run`` takes (states and lengths are separate).
        outputs: what ``run`` returns (states are separate).
        states: the explicit states.
        lengths: name of the lengths input, or None.
        end: name of the input that says whether a call ends the sequence, or None.
        provider: ``"cpu"`` or ``"cuda"``; onnxruntime gave the one that was requested.
        kernels: the instruction set of the kernels that run the file's ``lstm_edge`` operators, for example
            ``"avx512vnni"``; None if their function bodies run, or if the file has no such operator.
        operators: number of calls of ``lstm_edge`` operators.
        verified: True if the file's bytes agree with its integrity trailer; False if the file has none.
        signature: what a trusted key signed about the file; None if no trusted keys were given.
        notes: sentences about facts that could not be verified or inferred.
        size_bytes: size of the file.
        placement: where each node ran; None on the CPU.
        onnxruntime_session: the onnxruntime session, for functions that this class does not offer.
    """

    # Full optimizations; a subclass opens another tool's file with basic ones.
    basic: ClassVar[bool] = False

    card: ModelCard | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    lengths: str | None
    end: str | None
    provider: str
    kernels: str | None
    operators: int
    verified: bool
    signature: Signed | None
    notes: tuple[str, ...]
    size_bytes: int
    placement: tuple[NodePlacement, ...] | None
    onnxruntime_session: onnxruntime.InferenceSession

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        provider: str = "cpu",
        threads: int = 1,
        strict: bool = False,
        kernels: KernelChoice = "auto",
        trusted_keys: Sequence[str | os.PathLike[str]] | None = None,
        signature: str | os.PathLike[str] | bytes | None = None,
        signed_name: str | None = None,
        minimum_version: str | None = None,
        require_clock: bool = False,
    ) -> None:
        """Open a model.

        Args:
            source: path of an ``.onnx`` file, or its bytes.
            provider: ``"cpu"`` or ``"cuda"``; an error if onnxruntime gives another one.
            threads: threads within one operator.
            strict: under CUDA, refuse a model if any of its nodes would run on the CPU.
            kernels: ``"auto"`` runs the file's ``lstm_edge`` operators with the fused kernels if these were built and
                the provider is the CPU. ``"required"`` raises an error if the kernels are not available. ``"off"``
                runs the function bodies.
            trusted_keys: paths of Ed25519 public keys (docs/signing.md). The file is refused before a byte of it is
                parsed, unless one of them signed it; None: no signature is checked.
            signature: the signature file, or its bytes; None: the path of the file with ``.sig`` behind it.
            signed_name: the name that the signature must give; None: any.
            minimum_version: the smallest version that is accepted, such as ``"1.4.2"``; None: any.
            require_clock: refuse a signature that expires if the device's clock is evidently not set; otherwise the
                file is opened, and ``notes`` say that the expiry was not checked.

        Raises:
            SignatureError: the file is not signed, or the signature, the keys or a rule refuse it.
            MissingExtraError: a signature must be checked, and the package ``cryptography`` is not installed.
            IntegrityError: the bytes do not agree with the integrity trailer.
            ArtifactError: the file does not exist, onnxruntime cannot read it, its weights are in another file, or a
                column sum of an int8 matrix is larger than the operators allow.
            CardError: the card is damaged, has an unknown version, or contradicts the graph.
            ProviderError: the provider is unknown or not available, or required kernels are not available.
            InputError: ``threads``, ``kernels`` or a rule for signatures is not a valid value, or a key cannot be read.
        """
        trust = read_trust(
            trusted_keys,
            signature=signature,
            signed_name=signed_name,
            minimum_version=minimum_version,
            require_clock=require_clock,
        )
        # The bytes that are verified are the bytes that are opened: the file is read once.
        data = source if isinstance(source, bytes) else read_model_bytes(source, any_kind=trust is not None)
        self.signature = (
            None if trust is None else check_signature(data, trust, None if isinstance(source, bytes) else source)
        )
        try:
            self._open(data, provider=provider, threads=threads, strict=strict, kernels=kernels)
        except ArtifactError as error:
            path = "" if isinstance(source, bytes) else os.fspath(source)
            if not path or str(error).startswith(path):
                raise
            raise type(error)(f"{path}: {error}") from error

    def _open(self, data: bytes, *, provider: str, threads: int, strict: bool, kernels: KernelChoice) -> None:
        self.verified = check_integrity(data)
        reading = read_model(data)
        check_functions(reading)
        check_whole(reading)
        if self.verified and TRAILER_KEY not in reading.metadata:
            raise IntegrityError(
                "the file's integrity trailer is not metadata of the model but lies inside another of its fields: "
                "make the file again with the tool that wrote it"
            )
        self.size_bytes = len(data)
        self.provider = provider
        called = called_operators(reading)
        self.operators = len(called)
        # A file without our operators needs no library, so it is loaded only if "required" asks for it.
        wanted = kernels if self.operators or kernels != "auto" else "off"
        library, self._why_bodies = choose_library(wanted, provider)
        self.kernels = library.instruction_set if library is not None and self.operators else None
        if self.kernels is None and self.operators:
            check_column_sums(data, reading)
            check_sparse_matrices(data, reading)
        self.onnxruntime_session = open_session(
            data,
            provider=provider,
            threads=threads,
            strict=strict,
            library=library if self.operators else None,
            operators=frozenset(called),
            basic=self.basic,
        )
        give_back_heap(len(data))
        metadata = self._metadata()
        if not self.verified and TRAILER_KEY in metadata:
            raise IntegrityError(
                "the file's integrity trailer is not at its end: another tool rewrote the file after it was made; "
                f"make it again, or remove the metadata entry {TRAILER_KEY!r} to use it unverified"
            )
        self.card = parse_card(metadata[CARD_KEY]) if CARD_KEY in metadata else None
        self._contract = read_contract(self.onnxruntime_session, self.card)
        self.inputs = self._contract.inputs
        self.outputs = self._contract.outputs
        self.states = self._contract.states
        self.lengths = self._contract.lengths
        self.end = self._contract.end
        self._output_names = [spec.name for spec in self.outputs] + [spec.output for spec in self.states]
        alike = self.card is None or (self.card.front_end is None and is_one_to_one(self.card.streaming))
        self._prepared = None
        if provider == "cpu":
            self._prepared = PreparedCalls(self.onnxruntime_session, self._contract, None if alike else self._finish)
        # A second session is profiled, because profiling would continue in the session that is used.
        self.placement = None
        if provider != "cpu":
            self.placement = measure_placement(data, self._example_feeds(), provider=provider, threads=threads)
        self.notes = collect_notes(
            verified=self.verified,
            signature=self.signature,
            card=self.card,
            provider=provider,
            kernels=self.kernels,
            placement=self.placement,
            why_bodies=self._why_bodies,
        )

    def _metadata(self) -> dict[str, str]:
        try:
            return dict(self.onnxruntime_session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise ArtifactError(f"the file's metadata is not UTF-8 text ({error.reason}): make it again") from error

    def _example_feeds(self) -> dict[str, Array]:
        """Return zeros of two time steps, or of as many as the model needs, to find out where the nodes run."""
        sizes = {BATCH: 1, TIME: 2 if self.card is None else max(2, self.card.streaming.first)}
        arrays = {
            spec.name: np.zeros(
                [sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in spec.axes], spec.dtype
            )
            for spec in self.inputs
        }
        return self._feeds(arrays, None, None)[0]

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the initial state of ``batch_size`` rows.

        Raises:
            InputError: the batch size is not a positive integer.
        """
        return State.zeros(self.states, batch_size)

    def golden(self) -> Golden | None:
        """Read the golden vectors of the file; None if it has none.

        Raises:
            ArtifactError: the golden vectors are damaged.
        """
        text = self._metadata().get(GOLDEN_KEY)
        return None if text is None else decode_golden(text)

    def run(
        self,
        inputs: Array | Mapping[str, Array],
        state: State | None = None,
        lengths: Array | Sequence[int] | None = None,
        *,
        end: bool = True,
    ) -> tuple[dict[str, Array], State]:
        """Run the model once; the arguments stay unchanged.

        Args:
            inputs: an array for a model with one input, else a mapping from input name to array; dtype and axes as in
                ``inputs``, for example float32 [batch, time, features]. The mapping may hold the states too: all of
                them, and then ``state`` is None.
            state: state before the first step; None: zeros, unless ``inputs`` has the states.
            lengths: valid time steps of each row, integers 0..T; None: all T. Only for a model that was exported
                with lengths.
            end: whether the sequence ends with this call, so that a model with convolutions pads after the last step.
                Pass False to cut a sequence by hand, and only where every step has completed its outputs:
                ``first + k * every`` steps in the first call and ``k * every`` in later ones, by the card's
                ``streaming``. Most models have no such convolutions; ``end`` then changes nothing.

        Returns:
            The outputs by name, and the state after the last (valid) step. All arrays are new.

        Raises:
            InputError: a name, dtype, shape, length or value is wrong, ``end`` is False and the number of steps does
                not complete the outputs, or ``state`` is that of a sequence that has ended; the message says which and
                what was expected.
        """
        if end.__class__ is not bool:
            if not isinstance(end, bool | np.bool_):
                raise InputError(f"end must be True or False, got {end!r}")
            end = bool(end)
        if self._prepared is not None:
            answer = self._prepared.run(inputs, state, lengths, end)
            if answer is not None:
                return answer
        feeds, steps, rows, begun = self._feeds(inputs, state, lengths, end=end)
        blocked = self._after(steps, begun=begun, end=end)
        answers = self._answer(feeds)
        if self._prepared is not None:
            self._prepared.learn(feeds, answers, steps=steps, batch_size=rows)
        arrays = {spec.input: answers[spec.output] for spec in self.states}
        new_state = State(self.states, arrays, begun=True, blocked=blocked)
        return {spec.name: answers[spec.name] for spec in self.outputs}, new_state

    def run_graph(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on arrays by their names in the graph, as golden vectors hold them.

        Args:
            arrays: every input; states that are left out are zeros, lengths all T, and the end of the sequence is 1.

        Returns:
            Every output by its name in the graph, new states included.

        Raises:
            InputError: as ``run``, except that a sequence may be cut anywhere.
        """
        rest = dict(arrays)
        given = {spec.input: rest.pop(spec.input) for spec in self.states if spec.input in rest}
        lengths = rest.pop(self.lengths, None) if self.lengths is not None else None
        end = rest.pop(self.end, None) if self.end is not None else None
        feeds, *_ = self._feeds(rest, State.from_arrays(self.states, given) if given else None, lengths)
        if end is not None:
            if end.dtype != np.int64 or end.shape != (1,):
                raise InputError(f"input {self.end!r} is {end.dtype} {list(end.shape)}, expected int64 [1]")
            feeds[str(self.end)] = end
        return self._answer(feeds)

    def _answer(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        try:
            results = self.onnxruntime_session.run(self._output_names, feeds)
        except RUNTIME_ERRORS as error:
            raise InputError(f"onnxruntime refused these inputs: {first_line(error)}") from error
        return dict(zip(self._output_names, results, strict=True))

    def _feeds(
        self, inputs: Any, state: State | None, lengths: Any, *, end: bool = True
    ) -> tuple[dict[str, Array], int, int, bool]:
        """Return an array for each input of the graph, steps and rows, and whether there were earlier steps."""
        inputs, state = split_states(inputs, state, self.states)
        named = name_inputs(self._contract, inputs)
        feeds = {spec.name: check_array(spec, named[spec.name]) for spec in self.inputs}
        sizes = check_shapes(self.inputs, feeds)
        for name, array in feeds.items():
            check_finite(name, array)
        valid = check_lengths(self._contract, lengths, sizes)
        if valid is not None:
            feeds[str(self.lengths)] = valid
        if self.end is not None:
            feeds[self.end] = np.array([end], np.int64)
        rows, steps = sizes.get(BATCH, 1), sizes.get(TIME, 1)
        checked = self._check_state(state, rows)
        if not checked.begun:
            check_frame(self.card, steps)
        return feeds | dict(checked), steps, rows, checked.begun

    def _finish(self, steps: int, begun: bool, end: bool) -> str:
        """Check the number of steps of a prepared call, and return what ``_after`` returns."""
        if not begun:
            check_frame(self.card, steps)
        return self._after(steps, begun=begun, end=end)

    def _after(self, steps: int, *, begun: bool, end: bool) -> str:
        return "" if self.card is None else blocked_after(self.card.streaming, steps, begun=begun, end=end)

    def _check_state(self, state: State | None, batch_size: int) -> State:
        if state is None:
            return self.initial_state(batch_size)
        if not isinstance(state, State):
            raise InputError(
                f"state must be a State, got {type(state).__name__}: State.from_arrays(session.states, arrays)"
            )
        State.from_arrays(self.states, state)
        if state.batch_size not in (None, batch_size):
            raise InputError(f"the state has {state.batch_size} rows, the inputs have {batch_size}")
        return state

    def stream(
        self, batch_size: int = 1, on_nonfinite: Literal["refuse"] = "refuse", *, metrics: Metrics | None = None
    ) -> Stream:
        """Return a stream that starts at the initial state.

        Args:
            batch_size: number of rows that are streamed together.
            on_nonfinite: what to do if the input or the new state of a step holds NaN or infinity. ``"refuse"``, the
                only policy, raises InputError and leaves the state unchanged.
            metrics: counts pushes and refusals, and samples every k-th push.

        Raises:
            StreamingError: the model cannot be streamed; the message gives the card's reason.
            InputError: the batch size or the policy is not valid, or ``metrics`` has streams of another model.
        """
        if metrics is not None:
            return WatchedStream(self, batch_size=batch_size, on_nonfinite=on_nonfinite, metrics=metrics)
        return Stream(self, batch_size=batch_size, on_nonfinite=on_nonfinite)

    def pool(self, capacity: int = 256, threads: int = 1) -> Pool:
        """Return a pool for streams that come and go, and share the calls of the graph.

        Args:
            capacity: how many streams may be attached at once; memory for their states is reserved.
            threads: how many threads share a push, where there is enough work.

        Raises:
            StreamingError: the model cannot be streamed, or its streams cannot share calls; the message says why.
            InputError: the capacity or the number of threads is not valid.
        """
        return Pool(self, capacity=capacity, threads=threads)
