"""``python -m lstm_edge`` is the command line: what ``torchrun -m lstm_edge`` starts."""

from lstm_edge.cli import main

if __name__ == "__main__":
    main()
