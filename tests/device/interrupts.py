"""An interrupt at a chosen instruction of the runtime."""

import sys

__all__ = ["InterruptError", "interrupt_at"]


class InterruptError(BaseException):
    """Like KeyboardInterrupt, but nobody else raises it."""


def interrupt_at(action, place):
    """Run an action with an interrupt at one of its instructions; whether it had fewer."""
    left = place

    def trace(frame, event, _argument):
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode" and "lstm_edge_runtime" in frame.f_code.co_filename:
            left -= 1
            if left == 0:
                raise InterruptError
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        action()
    except InterruptError:
        return False
    finally:
        sys.settrace(before)
    return True
