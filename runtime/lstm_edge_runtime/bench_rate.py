"""Time calls that start at fixed times, as in a control loop; the rules of ``lstm-edge-device bench --rate``."""

import math
import time
from collections.abc import Callable
from typing import Any

from lstm_edge_runtime.bench_report import Paced

__all__ = ["time_at_rate"]

_SECOND = 1_000_000_000


def time_at_rate(
    call: Callable[[int], Any],
    calls: int,
    rate_hz: float,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Paced:
    """Start calls at fixed times and time each of them.

    A start that passes before the answer is there is a missed deadline. It is left out, so that one slow call does not
    make all later calls late.

    Args:
        call: what is timed; takes the number of the call.
        calls: number of calls that are made.
        rate_hz: starts per second.
        clock: monotonic time in nanoseconds.
        sleep: waits for seconds.
    """
    period = _SECOND / rate_hz
    begin = clock() + int(period)
    times, missed, worst_wake, slot = [], 0, 0, 0
    for index in range(calls):
        due = begin + int(period * slot)
        while (left := due - clock()) > 0:
            sleep(left / _SECOND)
        start = clock()
        worst_wake = max(worst_wake, start - due)
        call(index)
        end = clock()
        times.append(end - start)
        late = int((end - due) / period)
        missed += late
        slot += late + 1
    times.sort()
    p50, p99, p999, worst = (_quantile_us(times, share) for share in (0.5, 0.99, 0.999, 1.0))
    return Paced(
        calls=calls,
        rate_hz=float(rate_hz),
        p50_us=p50,
        p99_us=p99,
        p999_us=p999,
        worst_us=worst,
        worst_wake_us=worst_wake / 1e3,
        missed_deadlines=missed,
    )


def _quantile_us(times_ns: list[int], share: float) -> float:
    """Return the smallest of the sorted times that a share of all calls keeps."""
    return times_ns[max(math.ceil(share * len(times_ns)), 1) - 1] / 1e3
