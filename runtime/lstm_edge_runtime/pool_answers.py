"""What a push of a pool returns: the answers by id, and why streams were refused."""

from typing import Any

from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["Answers"]


class Answers(dict[int, Any]):
    """The answer of each stream by its id, in the order of the ids that were given.

    Attributes:
        refused: the error of each stream that was refused, by its id, in the same order; its state and steps are as
            they were. To ask for the answer of a refused stream raises its error.
    """

    __slots__ = ("refused",)

    refused: dict[int, LstmEdgeError]

    def __init__(self) -> None:
        """Hold nothing yet."""
        super().__init__()
        self.refused = {}

    def refuse(self, number: int, error: LstmEdgeError) -> None:
        """Note the error of a stream, without a traceback, whose frames would hold the arrays of the push."""
        self.refused[number] = type(error)(f"stream {number}: {error}")

    def arranged(self, ids: list[int]) -> "Answers":
        """Return the same in another order of ids."""
        answers = Answers()
        for number in ids:
            if number in self:
                answers[number] = self[number]
        answers.refused = {number: self.refused[number] for number in ids if number in self.refused}
        return answers

    def __missing__(self, key: int) -> Any:
        if key in self.refused:
            raise self.refused[key]
        raise KeyError(key)
