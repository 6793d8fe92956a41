"""What each command of ``lstm-edge`` does, one module a command; ``lstm_edge`` has each as a function of its name.

The command line reads the options, calls the function and prints what it returns.
"""
