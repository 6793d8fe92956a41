"""The reason why a graph cannot be made streamable."""

__all__ = ["NotStreamable"]


class NotStreamable(Exception):  # noqa: N818  not an error: the file is written all the same, with this reason
    """An operation needs the whole sequence, or it is not known how it treats time; the message names it."""
