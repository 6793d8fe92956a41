"""Completion in a shell without typer: commands, options, and the values of options that have choices.

The words that a shell hands over, and the answer, are those of typer (``_LSTM_EDGE_COMPLETE``): a shell that was set up
with either package completes with both.
"""

import os
from collections.abc import Mapping, Sequence

from lstm_edge_runtime.cli.definition import CommandDefinition
from lstm_edge_runtime.cli.parsing import options_of

__all__ = ["BASH_SCRIPT", "VARIABLE", "asked_words", "completions"]

VARIABLE = "_LSTM_EDGE_COMPLETE"
BASH_SCRIPT = f"""_lstm_edge_completion() {{
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${{COMP_WORDS[*]}}" \\
                   COMP_CWORD=$COMP_CWORD \\
                   {VARIABLE}=complete_bash $1 ) )
    return 0
}}

complete -o default -F _lstm_edge_completion lstm-edge"""


def asked_words(environment: Mapping[str, str] = os.environ) -> list[str] | None:
    """Return the words after ``lstm-edge`` up to the one to complete, where bash asks; otherwise None."""
    if environment.get(VARIABLE) != "complete_bash":
        return None
    words = environment.get("COMP_WORDS", "").split()
    position = int(environment.get("COMP_CWORD", "0"))
    return [*words[1:position], words[position] if position < len(words) else ""]


def completions(words: Sequence[str], commands: Mapping[str, CommandDefinition], others: Sequence[str]) -> list[str]:
    """Return what the last word may become.

    Args:
        words: those after ``lstm-edge``; the last one is incomplete, or empty.
        commands: this package's, by name.
        others: names of commands of other packages, which complete nothing here.
    """
    *before, word = words
    if not before:
        return [name for name in (*commands, *others, "--help", "--version") if name.startswith(word)]
    if before[0] not in commands:
        return []
    found = []
    for option in options_of(commands[before[0]]):
        if before[-1] in option.flags and option.kind is not bool:
            return [choice for choice in option.choices if choice.startswith(word)]
        found += [flag for flag in option.flags if word and flag.startswith(word)]
    return found
