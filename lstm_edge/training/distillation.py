"""Distillation: a small or sparse model learns from the logits of a large one, besides the labels.

The loss is that of Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015 (section 2):

    (1 - alpha) * CE(y, softmax(s)) + alpha * T^2 * KL(softmax(t / T) || softmax(s / T))

with the student's logits s, the teacher's logits t and the temperature T. The factor T^2 keeps the size of the second
gradient when T changes, because that gradient falls with 1 / T^2. (The paper has the cross-entropy with the teacher's
distribution; it differs from KL by the teacher's entropy, which has no gradient.) Both terms are means over the same
positions: those that are not padding.

C classes; "..." are any axes: rows, or rows and steps.
"""

import copy
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge.training.losses import IGNORED
from lstm_edge.training.models.distilled import Distilled, check_alpha, check_temperature
from lstm_edge.training.models.language import LanguageModel, LstmState
from lstm_edge.training.models.recurrent import RecurrentConfig
from lstm_edge_runtime.errors import InputError

__all__ = ["Distillation", "Teacher", "distillation_loss", "distilled"]

C = TypeVar("C", bound=RecurrentConfig)

# Fields of a configuration that decide what a model's inputs and logits mean, and what each has in messages.
MEANINGS = {
    "features": "features",
    "classes": "classes",
    "labels": "labels",
    "tokens": "tokens",
    "vocabulary": "a vocabulary",
    "text": "rules from text to tokens",
}


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    *,
    temperature: float = 2.0,
    alpha: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """Return ``(1 - alpha) * CE + alpha * T^2 * KL(teacher || student)`` (Hinton, Vinyals, Dean, 2015), in nats.

    For a training loop of your own: run the teacher in evaluation mode under ``torch.no_grad()``. No gradient flows to
    ``teacher_logits``. The cross-entropy of float16 and bfloat16 is computed in float32, the second
    term always in float64.

    Args:
        student_logits: float ``[..., C]``, classes last.
        teacher_logits: the same shape; another float dtype is allowed.
        targets: int64 ``[...]``, classes from 0 to C - 1; positions with -100 (PyTorch's ``ignore_index``) are left
            out of both terms.
        temperature: T, 0.01 to 1000; divides both logits of the second term.
        alpha: share of the teacher, 0 to 1.
        mask: bool ``[...]``, False for further positions to leave out, such as padding; None: no further ones.

    Returns:
        The mean over the positions that count, shape ``[]``.

    Raises:
        InputError: shapes or dtypes do not fit, no position counts, or a number is out of its range.
    """
    check_temperature(temperature)
    check_alpha(alpha)
    _check_tensors(student_logits, teacher_logits, targets, mask)
    counts = targets != IGNORED if mask is None else mask & (targets != IGNORED)
    if not bool(counts.any()):
        raise InputError("distillation: no position counts: all are masked or have the target -100")
    student = student_logits[counts]
    hard = functional.cross_entropy(_wide(student), targets[counts])
    return _blend(hard, student, teacher_logits[counts], temperature, alpha)


@dataclass(frozen=True, kw_only=True, eq=False)
class Distillation:
    """A trained teacher, and how much a training listens to it.

    Attributes:
        teacher: a classifier, tagger or language model with the same inputs and outputs as the student; it is not
            changed.
        temperature: T, 0.01 to 1000.
        alpha: share of the teacher in the loss, 0 to 1.
        name: the teacher's name in messages.
        sha256: SHA-256 of the teacher's checkpoint; None: of the checkpoint that ``save_checkpoint`` would write.

    Raises:
        InputError: a number is out of its range.
    """

    teacher: nn.Module
    temperature: float = 2.0
    alpha: float = 0.5
    name: str = "teacher"
    sha256: str | None = None

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_alpha(self.alpha)

    @classmethod
    def read(cls, path: str | Path, kind: type[nn.Module], **numbers: float) -> Self:
        """Read the teacher from a checkpoint; ``numbers`` are ``temperature`` and ``alpha``.

        Raises:
            ArtifactError: the file is missing or damaged, or a checkpoint of another task.
            InputError: a number is out of its range.
        """
        from lstm_edge.checkpoint import load_checkpoint_of

        teacher: nn.Module = load_checkpoint_of(kind, path)  # type: ignore[type-var]  # kind is one of its four
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(teacher=teacher, name=f"teacher {path}", sha256=digest, **numbers)

    def record(self) -> Distilled:
        """Return what the student's checkpoint says of this distillation."""
        digest = self.sha256
        if digest is None:
            from lstm_edge.checkpoint import checkpoint_bytes

            digest = hashlib.sha256(checkpoint_bytes(self.teacher)).hexdigest()  # type: ignore[arg-type]  # checked
        return Distilled(teacher=digest, temperature=float(self.temperature), alpha=float(self.alpha))


class Teacher:
    """The teacher during a training: a copy in evaluation mode, which draws no numbers and gets no gradients."""

    def __init__(self, distillation: Distillation) -> None:
        self.model = copy.deepcopy(distillation.teacher).eval().requires_grad_(False)
        self.temperature, self.alpha = distillation.temperature, distillation.alpha

    def answer(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the logits for raw inputs ``[B, T, F]``: ``[B, C]`` or ``[B, T, C]``."""
        with torch.no_grad():
            logits: Tensor = self.model(x, lengths)
        return logits

    def run(self, ids: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        """Return the logits ``[B, T, C]`` of tokens ``[B, T]``, and the state after them; see ``LanguageModel.run``."""
        assert isinstance(self.model, LanguageModel)
        with torch.no_grad():
            return self.model.run(ids, state)

    def blend(self, hard: Tensor, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            hard: the mean loss by the targets, ``[]``.
            student_logits: ``[..., C]``.
            teacher_logits: ``[..., C]``.
            targets: int64 ``[...]``; the hard loss and this one leave ``IGNORED`` out.
        """
        counts = targets != IGNORED
        if not bool(counts.all()):
            student_logits, teacher_logits = student_logits[counts], teacher_logits[counts]
        return _blend(hard, student_logits, teacher_logits, self.temperature, self.alpha)


def distilled(config: C, distillation: Distillation | None) -> C:
    """Return the student's configuration with the record of the distillation, or without one.

    Raises:
        InputError: the task has no logits, or the teacher has other inputs or outputs than the student.
    """
    if distillation is None:
        return replace(config, distilled=None)
    mine, where = config.to_json(), distillation.name
    if "targets" in mine:
        raise InputError(
            "distillation: a forecaster has values and no logits; a teacher is for classification, tagging and "
            "language models"
        )
    teacher: object = getattr(distillation.teacher, "config", None)
    if not isinstance(teacher, type(config)):
        raise InputError(f"{where}: it is a {type(distillation.teacher).__name__}, expected a {config.noun}")
    theirs = teacher.to_json()
    for name, noun in MEANINGS.items():
        if mine.get(name) != theirs.get(name):
            raise InputError(f"{where}: {_difference(noun, theirs.get(name), mine.get(name))}")
    return replace(config, distilled=distillation.record())


def _difference(noun: str, theirs: Any, mine: Any) -> str:
    """Return how the teacher's value of a field differs from the student's."""
    if isinstance(theirs, list) and isinstance(mine, list):
        if len(theirs) == len(mine):
            number = next(place for place, pair in enumerate(zip(theirs, mine, strict=True)) if pair[0] != pair[1])
            theirs, mine = (f"{value[number]!r} as entry {number}" for value in (theirs, mine))
        else:
            theirs, mine = (f"{len(value)} entries" if value else "no names" for value in (theirs, mine))
        found = f"{noun} with {theirs}, this training has {mine}"
    elif isinstance(theirs, int) and isinstance(mine, int):
        found = f"{theirs} {noun}, this training has {mine}"
    else:
        found = f"{noun} {_short(theirs)}, this training has {_short(mine)}"
    return f"it has {found}: teacher and student need the same inputs and outputs in the same order"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _blend(hard: Tensor, student: Tensor, teacher: Tensor, temperature: float, alpha: float) -> Tensor:
    soft = _divergence(student, teacher.detach(), temperature)
    return (1 - alpha) * hard + (alpha * temperature**2) * soft


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean of KL(softmax(teacher / T) || softmax(student / T)) over all rows of ``[..., C]``.

    With q the teacher's probability of a class, p the student's and r = log q - log p, KL is the sum of
    q * (exp(-r) - 1 + r): the added p - q sums to 0. Every term is 0 or more and of second order in r, so a high
    temperature, where p and q differ little, leaves no difference of large numbers behind. (The sum of q * r has lost
    half of its digits at T = 100 in float32.) r itself is a difference of numbers that are nearly equal, so it is all
    computed in float64: in float32 at T = 947 and logits of 0.01 the gradient is wrong by 1 %.
    """
    log_p = functional.log_softmax(student.double() / temperature, dim=-1)
    log_q = functional.log_softmax(teacher.double() / temperature, dim=-1)
    r, q = log_q - log_p, log_q.exp()
    # exp(-r) overflows where q is almost 0; q * exp(-r) is p.
    near = r.clamp(-1.0, 1.0)
    terms = torch.where(r.abs() < 1.0, q * (torch.expm1(-near) + near), log_p.exp() - q + q * r)
    return terms.sum(dim=-1).mean().to(_wide(student).dtype)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _check_tensors(student: Tensor, teacher: Tensor, targets: Tensor, mask: Tensor | None) -> None:
    if student.shape != teacher.shape or student.dim() == 0:
        raise InputError(
            f"distillation: student_logits is {list(student.shape)} and teacher_logits {list(teacher.shape)}, expected "
            "two equal shapes [..., classes]"
        )
    for name, logits in (("student_logits", student), ("teacher_logits", teacher)):
        if not logits.is_floating_point():
            raise InputError(f"distillation: {name} is {logits.dtype}, expected floating-point logits")
    given = [("targets", targets, torch.int64)] + ([] if mask is None else [("mask", mask, torch.bool)])
    for name, tensor, dtype in given:
        if tensor.dtype != dtype or tensor.shape != student.shape[:-1]:
            raise InputError(
                f"distillation: {name} is {tensor.dtype} {list(tensor.shape)}, expected {dtype} "
                f"{list(student.shape[:-1])}, the logits' shape without its last axis, the classes"
            )
