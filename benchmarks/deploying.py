"""The time of a deploy to twenty devices beside that of one: OpenSSH servers on the loopback interface.

The device's check is replaced by a stand-in that waits two seconds; the canary is off. Prints both times and their
ratio; the limit is three. Needs Debian's openssh-server.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT), str(ROOT / "exporters"), str(ROOT / "runtime")]

MODELS = ROOT / "tests" / "device" / "models"
PROGRAM = "#!/bin/sh\nsleep 2\n"


def measure(hosts: int, runs: int) -> None:
    """Deploy to one device and to all, in turns, and print the medians."""
    from support.sshd import Fleet, missing_sshd

    import lstm_edge

    if missing_sshd():
        raise SystemExit(missing_sshd())
    models = [MODELS / "exported_int8.onnx", MODELS / "exported_float32.onnx"]
    times: dict[int, list[float]] = {1: [], hosts: []}
    with tempfile.TemporaryDirectory() as folder, Fleet(folder, hosts) as fleet:
        program = Path(folder) / "stand-in"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        for run in range(runs):
            for count, measured in times.items():
                model = models[run % 2]
                options = fleet.options(*fleet.devices[:count], device_command=str(program), canary=0)
                for device in fleet.devices[:count]:
                    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
                    (device.root / "models" / f"{sha256}.onnx").unlink(missing_ok=True)
                    (device.root / "current").unlink(missing_ok=True)
                began = time.monotonic()
                report = lstm_edge.deploy(model, **options)
                measured.append(time.monotonic() - began)
                report.check()
                assert all(host.result == "deployed" and host.sent_bytes for host in report.hosts)
    one, all_of_them = (sorted(found)[len(found) // 2] for found in times.values())
    print(f"{'devices':>8} {'median s':>9} {'all s'}")
    for count, found in times.items():
        print(f"{count:>8} {sorted(found)[len(found) // 2]:>9.2f} {', '.join(f'{t:.2f}' for t in found)}")
    print(f"{hosts} devices take {all_of_them / one:.2f} times as long as one; at most 3 are allowed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    measure(arguments.hosts, arguments.runs)
