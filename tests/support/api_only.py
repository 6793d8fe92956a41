"""Parameters that the functions of `lstm_edge` and the commands do not share, each with the reason."""

# How a command prints what it did, and nothing else: the functions of `lstm_edge` do not have them.
PRESENTATION = {
    "as_json": "--json prints the report as JSON instead of as a table.",
    "quiet": "--quiet prints results and errors only.",
    "verbose": "--verbose prints what a command does, and the traceback of an error.",
}
# How a function tells a program what the command line shows a person: the commands do not have them.
CALLBACKS = {
    "progress": "A line for each thing that is being done: standard error.",
    "on_progress": "How much is done: the bar.",
    "on_epoch": "An epoch of a training: the bar, or a line of JSON.",
    "on_evaluation": "A file that a search judged: the bar.",
    "on_workers": "What the workers of a search do: the bar.",
    "on_answer": "An answer to a call: standard output.",
    "on_line": "An answer of a stream: a line of standard output.",
    "on_text": "A piece of text as it is written: standard output.",
    "on_event": "A step of a device: a line on a terminal.",
    "on_score": "The score of a token: a line of standard output.",
}
# What only a program can give, because no text says it.
ONLY_FROM_PYTHON = {
    "export": {"example_inputs": "Tensors in place of the axes of --input."},
    "adopt": {"axes": "Axes without a dtype: the old grammar of the command."},
    "quantize": {
        "rounder": "A function that rounds, in place of --data.",
        "calibration_sha256": "Of the data that it was made with.",
    },
    # `train` is one function for all of its commands.
    "train": {"task": "The word behind `lstm-edge train`."},
}
