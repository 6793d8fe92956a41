"""Counters, latency, states and input drift of streams that run for months, for a monitoring system (docs/watch.md)."""

from lstm_edge_runtime.watch.metrics import Metrics
from lstm_edge_runtime.watch.watched_stream import WatchedStream

__all__ = ["Metrics", "WatchedStream"]
