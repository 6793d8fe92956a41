"""Old names of options: they are hidden, still work, and print one line of notice on standard error."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_type_hints

import typer

from lstm_edge_runtime.cli import COMMANDS, definition_of
from lstm_edge_runtime.cli.definition import notice_old_name

__all__ = ["OLD_NAMES", "with_old_names"]

# Command -> old name -> the parameter that replaced it; `train` covers all its tasks. `adopt --axes` and `export
# --state` also had another grammar: their commands parse them.
OLD_NAMES: Mapping[str, Mapping[str, str]] = {
    "train": {"--validation-data": "held_out_data", "--checkpoint": "resume_file"},
    "select": {"--hidden": "hidden_sizes", "--layers": "layer_counts"},
    "quantize": {"--held-out": "held_out_data", "--layers": "layer_kinds"},
    # Those of the device's commands, which lstm_edge_runtime accepts.
    **{
        name: {option.old_flag: option.name for option in definition_of(name).options if option.old_flag}
        for name in COMMANDS
    },
}


def with_old_names(command: Callable[..., None], name: str) -> Callable[..., None]:
    """Return a command that also takes the old names of its options.

    Args:
        command: the function that typer calls; its options are keyword arguments.
        name: the key in ``OLD_NAMES``.
    """
    old = {flag: new for flag, new in OLD_NAMES[name].items() if new in inspect.signature(command).parameters}
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    hidden = {}
    for flag, new in old.items():
        kind: Any = Annotated[get_args(hints[new])[0] | None, typer.Option(flag, hidden=True)]
        hidden[f"old_{new}"] = inspect.Parameter(
            f"old_{new}", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind
        )

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for flag, new in old.items():
            given = values.pop(f"old_{new}")
            if given is None:
                continue
            notice_old_name(flag, new, is_default=values[new] == signature.parameters[new].default)
            values[new] = given
        command(**values)

    parameters = [*signature.parameters.values(), *hidden.values()]
    run.__dict__["__signature__"] = signature.replace(parameters=parameters)
    run.__annotations__ = hints | {own: parameter.annotation for own, parameter in hidden.items()}
    return run
