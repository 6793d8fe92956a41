"""Make the virtual environment of `make test-robotics`: the trainers' libraries beside what .venv has.

``python tests/robotics/environment.py FOLDER`` with the interpreter of .venv. Its packages are seen through a ``.pth``
file, so that neither torch nor the toolkit is installed twice.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> None:
    """Make the environment and install the pinned libraries."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    [site] = folder.glob("lib/python3*/site-packages")
    # addsitedir also follows the .pth files of .venv, such as that of the toolkit's editable install.
    (site / "toolkit.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pins = ["-c", ROOT / "constraints.txt", "-r", ROOT / "examples" / "robotics" / "requirements.txt"]
    subprocess.run([*pip, *pins], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
