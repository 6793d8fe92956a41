"""Our own Python code in a fresh, isolated interpreter: the one way in which this project starts Python.

``python -c`` and ``python -m`` look for modules in the current folder first, and ``PYTHONPATH`` comes before the
standard library: a ``json.py`` in a folder of somebody's files would be run. The interpreter that is started here has
neither on its path (``-I``). It has the standard library, then the folders that this process itself loaded our packages
from, then its site-packages.
"""

import importlib.util
import json
import os
import site
import sys
from collections.abc import Sequence

from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["python_command"]

# The folders come behind the standard library, which -I puts first, and before site-packages, where another version
# of the same packages may be installed. A user's own site-packages, which -I leaves out, come last, as always.
_BOOT = """
import json, os, sys
folders, user_site, code = json.loads(sys.argv[1])
standard = os.path.dirname(os.__file__)
last = max(at for at, entry in enumerate(sys.path) if entry == standard or entry.endswith("lib-dynload"))
sys.path[last + 1 : last + 1] = folders
if user_site:
    import site
    site.addsitedir(user_site)
sys.argv = ["lstm-edge", *sys.argv[2:]]
exec(compile(code, "<lstm-edge>", "exec"))
"""


def python_command(
    code: str, *arguments: str, packages: Sequence[str] = ("lstm_edge_runtime", "numpy", "onnxruntime")
) -> list[str]:
    """Return the command line that runs ``code`` in a fresh interpreter.

    Args:
        code: what runs, with ``arguments`` in ``sys.argv[1:]``.
        arguments: texts.
        packages: top-level packages that the code needs: the new interpreter finds them in the folders where this
            one does.

    Raises:
        LstmEdgeError: this process does not know its interpreter, or does not find a package.
    """
    if not sys.executable:
        raise LstmEdgeError(
            "a fresh process cannot be started: this program embeds Python, and sys.executable names no interpreter; "
            "set it to the path of one"
        )
    own = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    user_site = own if own in sys.path else ""
    given = json.dumps([_folders(packages), user_site, code])
    # What this process was told by variables of the environment, which -I ignores.
    flags = ["-B"] * sys.dont_write_bytecode + ["-X", "utf8"] * sys.flags.utf8_mode
    return [sys.executable, "-I", *flags, "-c", _BOOT, given, *arguments]


def _folders(packages: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in packages:
        spec = importlib.util.find_spec(name)  # of an imported package its own, which it was loaded with
        if spec is None or not spec.origin:
            raise LstmEdgeError(f"a fresh process needs the package {name!r}, which is not installed")
        # Two levels up: <folder>/<package>/__init__.py.
        found[os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))] = None
    return list(found)
