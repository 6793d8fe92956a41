"""``python -m lstm_edge`` is the command line: what ``torchrun -m lstm_edge`` starts.

Python itself puts the current folder first on the path for ``-m``, unless ``PYTHONSAFEPATH=1`` is set; the installed
``lstm-edge`` leaves it out.
"""

from lstm_edge.cli import main

if __name__ == "__main__":
    main()
