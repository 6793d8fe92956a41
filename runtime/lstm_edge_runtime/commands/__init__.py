"""What ``lstm-edge inspect``, ``check``, ``bench`` and ``run`` compute: a function for each, which returns a report.

``lstm_edge`` exports them; ``lstm_edge_runtime.cli`` reads the options and prints the reports.
"""
