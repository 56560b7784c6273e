"""Makes `.venv`: a Python environment with exactly the packages of requirements/dev.txt, and this project in it.

`make setup` runs it with whatever python3 the machine has; it needs nothing but the standard library, no root
and no compiler. Debian leaves `ensurepip` out of python3 (package python3-venv): then pip is taken from
wherever it is. Nothing is done when the environment is up to date.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.txt"
NEWEST_FIRST = ("3.13", "3.12", "3.11")  # what the lock file was made and tried for
PIP_PROGRAM = "https://bootstrap.pypa.io/get-pip.py"  # pip's own installer, as its documentation names it


class SetupFailed(Exception):
    """What happened, and behind a newline what to do."""


def fitting_python() -> str:
    """A Python this project runs on. Raises SetupFailed."""
    if sys.version_info >= (3, 11):  # noqa: UP036 - the system's python3 runs this, not ours
        return sys.executable
    for version in NEWEST_FIRST:
        program = shutil.which(f"python{version}")
        if program:
            return program
    raise SetupFailed(
        f"python3 here is {sys.version.split()[0]}; this project needs 3.11 or newer.\n"
        "Debian 12 and Ubuntu 24.04 have it. Ubuntu 22.04: sudo apt install python3.11 python3.11-venv"
    )


def fingerprint(lock: Path) -> str:
    """Changes when the environment must be made anew."""
    digest = hashlib.sha256()
    for path in (
        lock,
        ROOT / "pyproject.toml",
        ROOT / "setup.py",
        *sorted((ROOT / "nvr" / "fast").iterdir()),
        Path(__file__),
    ):
        digest.update(path.read_bytes() if path.exists() else b"-")
    return f"{digest.hexdigest()} {ROOT}\n"


def run(arguments: list[str], **more) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, text=True, capture_output=True, cwd=ROOT, check=False, **more)


def make_environment(python: str, venv: Path) -> str:
    """An environment with pip in it; the path of its python. Raises SetupFailed."""
    inside = str(venv / "bin" / "python")
    if venv.exists():
        shutil.rmtree(venv)
    if run([python, "-c", "import ensurepip"]).returncode == 0:
        made = run([python, "-m", "venv", str(venv)])
        if made.returncode == 0:
            return inside
    made = run([python, "-m", "venv", "--without-pip", str(venv)])
    if made.returncode != 0:
        raise SetupFailed(f"{python} -m venv failed: {made.stderr.strip()}\nInstall it: sudo apt install python3-venv")
    for bring_pip in (_pip_of_the_system, _pip_from_a_wheel, _pip_from_its_authors):
        if bring_pip(python, inside) and run([inside, "-m", "pip", "--version"]).returncode == 0:
            return inside
    raise SetupFailed(
        "python3 here comes without pip, and none could be fetched.\n"
        "Install it and run make again: sudo apt install python3-venv"
    )


def _pip_of_the_system(python: str, inside: str) -> bool:
    # `--python` is there since pip 22.3, which is older than any Python we run on.
    return run([python, "-m", "pip", "--python", inside, "install", "--quiet", "pip"]).returncode == 0


def _pip_from_a_wheel(python: str, inside: str) -> bool:
    """Debian's python3-pip-whl keeps pip as a wheel; a wheel of pip can be run as it is."""
    for wheel in sorted(Path("/usr/share/python-wheels").glob("pip-*.whl")):
        if run([inside, f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel)]).returncode == 0:
            return True
    return False


def _pip_from_its_authors(python: str, inside: str) -> bool:
    print("python3 comes without pip here: fetching it from bootstrap.pypa.io", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "get-pip.py"
        try:
            with urllib.request.urlopen(PIP_PROGRAM, timeout=60) as answer:
                program.write_bytes(answer.read())
        except OSError:
            return False
        return run([inside, str(program), "--quiet"]).returncode == 0


def install(inside: str, lock: Path, *, with_project: bool = True) -> None:
    """Exactly what the lock file names, then this project. Raises SetupFailed."""
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--retries", "2"]
    folder = Path(inside).parents[1].name
    print(f"installing the packages of {lock.relative_to(ROOT)} into {folder} (once, a minute or two)", flush=True)
    done = run([*pip, "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)])
    if done.returncode != 0:  # a board for which somebody has no wheel: build it, if there is a compiler
        done = run([*pip, "--quiet", "--require-hashes", "-r", str(lock)])
    if done.returncode != 0:
        raise SetupFailed(explained(done.stderr))
    if not with_project:
        return
    done = run([*pip, "--quiet", "--no-build-isolation", "--no-deps", "--editable", str(ROOT)])
    if done.returncode != 0:
        raise SetupFailed(f"the project itself could not be installed:\n{done.stderr[-2000:]}")


def explained(stderr: str) -> str:
    """What pip complained about, in one sentence and the package's name."""
    no_network = re.search(
        r"Failed to establish|Temporary failure in name|Network is unreachable|NewConnectionError", stderr
    )
    missing = re.search(
        r"(?:satisfies the requirement|matching distribution found for) ([A-Za-z0-9._-]+(?:==[^\s;(]+)?)", stderr
    )
    building = re.search(r"Failed (?:building wheel|to build)[^\n]*?([A-Za-z0-9._-]+)\s*$", stderr, re.MULTILINE)
    if no_network or missing:
        package = f"the package {missing[1]}" if missing else "the packages"
        why = "there is no way to the package index" if no_network else "the package index does not offer it"
        return (
            f"could not fetch {package}: {why}.\n"
            "Connect to the network and run make again; what is there already is kept. "
            "A mirror or a proxy is set with PIP_INDEX_URL, PIP_FIND_LINKS or HTTPS_PROXY."
        )
    if building:
        return (
            f"could not build {building[1]} for this machine.\nsudo apt install build-essential python3-dev libffi-dev"
        )
    if "No space left" in stderr:
        return "the disk is full.\nAbout 400 MB are needed."
    return f"pip failed:\n{stderr[-2000:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--lock", type=Path, default=LOCK)
    options = parser.parse_args()
    stamp = options.venv / "made-from"
    wanted = fingerprint(options.lock)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    try:
        inside = str(options.venv / "bin" / "python")
        # A changed lock file is installed over what is there; only an environment that does not run is made anew.
        if not stamp.exists() or run([inside, "-m", "pip", "--version"]).returncode != 0:
            inside = make_environment(fitting_python(), options.venv)
            stamp.write_text("unfinished\n")
        install(inside, options.lock)
    except SetupFailed as failure:
        print(f"\nmake setup: {failure}", file=sys.stderr)
        return 1
    draft = stamp.with_suffix(".new")
    draft.write_text(wanted)
    draft.replace(stamp)
    return 0


if __name__ == "__main__":
    sys.exit(main())
