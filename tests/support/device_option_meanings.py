"""What the options mean that only the commands about devices have; ``option_meanings.py`` has the others."""

from support.training_option_meanings import Row

__all__ = ["DEVICE_MEANINGS", "FLEET"]

FLEET = ("deploy", "status", "rollback", "prune")
SWITCHING = ("deploy", "rollback", "bundle")
RUNNING = (*SWITCHING, "validate")

DEVICE_MEANINGS = {
    "--canary": Row("integer", "Devices that go first.", ("deploy",)),
    "--device-command": Row("text", "Command line of the runtime on devices.", RUNNING),
    "--device-trusted-key": Row("text", "Public key on devices that must have signed the model.", SWITCHING),
    "--health": Row("text", "Command line that says whether a device's service is well.", SWITCHING),
    "--health-seconds": Row("integer", "Limit on the seconds of a health command.", SWITCHING),
    "--hosts": Row("path", "File of devices.", FLEET),
    "--identity": Row("path", "Private key to log in with.", (*FLEET, "validate")),
    "--keep": Row("integer", "Models that stay on a device.", ("prune",)),
    "--known-hosts": Row("path", "Host keys that are trusted.", (*FLEET, "validate")),
    "--max-failures": Row("integer", "Devices that may fail before no further one is begun.", ("deploy",)),
    "--max-p99-us": Row("number", "Limit on the 99th percentile of a step on a device.", ("deploy",)),
    "--on": Row("texts", "The device whose answers are judged.", ("validate",)),
    "--parallel": Row("integer", "Devices side by side.", ("deploy",)),
    "--path": Row("text", "Folder on devices that has the models.", (*FLEET, "bundle")),
    "--rate": Row("number", "Streaming steps per second.", ("bench",)),
    "--reload": Row("text", "Command line that makes a device's service load the model.", SWITCHING),
    "--step-seconds": Row("integer", "Limit on the seconds of a step on a device.", RUNNING),
    "--to": Row("texts", "A device.", FLEET),
    "--watch-seconds": Row("integer", "Time for which the health command must succeed.", SWITCHING),
}
