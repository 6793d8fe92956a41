"""Runs `lstm-edge select` once, and may kill it: argv is a plan in JSON.

    python selection_driver.py '{"data": D, "hidden": [2], "command": [...], "folder": F, "point": 7, "measured": M}'

The run counts events: statements and commits of the study's database, updates of trainings, and files that take their
final name (before and after). At event number ``point`` the process kills itself by SIGKILL, which nothing sees coming;
0 lets it finish. The events are in the folder's events.json. ``measured`` keeps the sizes and step times of the
candidates from one run to the next: step times would otherwise be the only thing that differs.
"""

import json
import os
import pickle
import signal
import sys
from pathlib import Path


class Events:
    """Counts, and kills at one of them; the count is in a file, which survives."""

    def __init__(self, point: int, log: Path) -> None:
        self.point = point
        self.log = log
        self.names: list[str] = []

    def happened(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.point:
            self.log.write_text(json.dumps(self.names))
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: object, attribute: str, name: str) -> None:
        """Let a function of ``owner`` be an event before it runs, and one after."""
        real = getattr(owner, attribute)

        def counted(*arguments: object, **keywords: object) -> object:
            self.happened(f"before {name}")
            answer = real(*arguments, **keywords)
            self.happened(f"after {name}")
            return answer

        setattr(owner, attribute, counted)


def run(command: list[str], folder: str, events: Events) -> None:
    """Run the command in a folder; never returns."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from lstm_edge import cli
    from lstm_edge.training import loop

    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    event.listen(Engine, "before_cursor_execute", lambda *_: events.happened("statement"))
    event.listen(Engine, "commit", lambda *_: events.happened("commit"))
    events.around(loop._Pass, "update", "an update")
    events.around(os, "replace", "a file's final name")
    sys.argv = ["lstm-edge", *command]
    status = 1
    try:
        cli.main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.stdout.flush()
        events.log.write_text(json.dumps(events.names))
        os._exit(status)


def prepare(data: str, hidden: tuple[int, ...], kept: Path) -> None:
    """Measure the candidates once for all runs."""
    from lstm_edge.data import load
    from lstm_edge.training import selection

    if kept.exists():
        measured = pickle.loads(kept.read_bytes())
    else:
        settings = selection.SelectionSettings(hidden=hidden)
        measured = selection.measure(load(data, default_split="train"), settings, say=lambda _: None)
        kept.write_bytes(pickle.dumps(measured))
    vars(selection)["measure"] = lambda *_arguments, **_keywords: measured


def main() -> None:
    """Do the plan."""
    plan = json.loads(sys.argv[1])
    prepare(plan["data"], tuple(plan["hidden"]), Path(plan["measured"]))
    run(plan["command"], plan["folder"], Events(plan["point"], Path(plan["folder"]) / "events.json"))


if __name__ == "__main__":
    main()
