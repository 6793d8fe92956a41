"""The command line as ``python -m lstm_edge_runtime``."""

from lstm_edge_runtime.entry import main

if __name__ == "__main__":
    main()
