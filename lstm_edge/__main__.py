"""The command line as ``python -m lstm_edge``, which ``torchrun -m lstm_edge`` starts.

With ``-m`` Python puts the current folder first on the path, unless ``PYTHONSAFEPATH=1`` is set. The installed
``lstm-edge`` does not.
"""

from lstm_edge.cli import main

if __name__ == "__main__":
    main()
