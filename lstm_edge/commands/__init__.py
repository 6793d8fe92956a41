"""The commands of ``lstm-edge``, one module per command; ``lstm_edge`` exports each as a function of the same name.

The command line reads the options, calls the function and prints what it returns.
"""
