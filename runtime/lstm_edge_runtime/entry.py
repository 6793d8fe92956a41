"""The console script ``lstm-edge``: it imports nothing itself, so that Ctrl-C during the imports is one sentence."""

import sys

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it; the exit code is 130 after Ctrl-C."""
    try:
        from lstm_edge_runtime.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
