"""`make audit`: are the packages that we lock known to be vulnerable, under which licences are they, and a bill of materials.

Works in an environment of its own (.venv-audit, from requirements/audit.txt), so that what looks is not what is looked at. Writes
build/sbom-box.json and build/sbom-dev.json (CycloneDX). Exit status 1: a package has a known vulnerability, an unknown licence, or no hash;
that nobody could be asked about vulnerabilities is said and is no failure: the machine has no way to the advisories.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"box": ROOT / "requirements" / "box.txt", "dev": ROOT / "requirements" / "dev.txt"}
VENV = ROOT / ".venv-audit"
AUDIT_S = 300
# Licences that a box may carry: what they ask for is a notice. PyAV's wheels carry FFmpeg under the LGPL; psycopg is LGPL: both are linked, not copied.
ALLOWED = re.compile(
    r"\b(mit|bsd|apache|python software foundation|psf|isc|mpl|mozilla|lgpl|lesser general public|zlib|unlicense|public domain|cc0|0bsd|zpl|hpnd|python-2\.0)\b",
    re.I,
)

SAID_ELSEWHERE = {"atheris": "Apache-2.0 (the LICENSE of its repository)"}  # not in the metadata of its wheels


def locked(lock: Path) -> dict[str, str]:
    """Names and versions of a lock file. Raises SystemExit for a package without a hash."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", lock.read_text()):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block)
        if not match:
            continue
        if "--hash=sha256:" not in block:
            raise SystemExit(
                f"{lock.name}: {match[1]} has no hash: anything could be installed in its place. Run make lock."
            )
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def licence_of(name: str) -> str:
    """As the package's own metadata says; "" where it is not installed here."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    said = metadata.get("License-Expression") or ""
    classifiers = [
        text.rpartition("::")[2].strip()
        for text in metadata.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    return (
        said
        or SAID_ELSEWHERE.get(name, "")
        or "; ".join(classifiers)
        or (metadata.get("License") or "not said").splitlines()[0][:80]
    )


def licences(names: list[str]) -> tuple[dict[str, str], list[str]]:
    """(licence by package, those that are not allowed or not said)."""
    found = {name: licence for name in names if (licence := licence_of(name))}
    return found, [f"{name}: {licence}" for name, licence in found.items() if not ALLOWED.search(licence)]


def environment() -> Path:
    """The folder of the audit's programs, installed as locked. Raises SystemExit."""
    from tools.environment import SetupFailed, fitting_python, install, make_environment

    lock, stamp = ROOT / "requirements" / "audit.txt", VENV / "made-from"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        try:
            install(make_environment(fitting_python(), VENV), lock, with_project=False)
        except SetupFailed as failure:
            raise SystemExit(f"make audit: {failure}") from None
        stamp.write_text(wanted)
    return VENV / "bin"


def vulnerabilities(programs: Path, lock: Path) -> tuple[list[str], str]:
    """(what is known, why nobody could be asked)."""
    try:
        done = subprocess.run(
            [programs / "pip-audit", "--disable-pip", "--require-hashes", "-r", lock, "-f", "json", "--progress-spinner", "off", "--timeout", "20"],
            capture_output=True, text=True, timeout=AUDIT_S, check=False,
        )  # fmt: skip
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        return [], f"the advisories could not be asked: {type(error).__name__}"
    known = [
        f"{each['name']} {each['version']}: {', '.join(v['id'] for v in each['vulns'])}"
        for each in packages
        if each.get("vulns")
    ]
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    if len(skipped) == len(packages):
        return known, "this machine has no way to the advisories; run it where there is one"
    return known, f"not in the advisories: {', '.join(skipped)}" if skipped else ""


def bill_of_materials(programs: Path, lock: Path, path: Path) -> int:
    """Write a CycloneDX file; how many components it names. Raises SystemExit."""
    path.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        [programs / "cyclonedx-py", "requirements", lock, "--output-reproducible", "--of", "JSON", "-o", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"no bill of materials for {lock.name}: {done.stderr[-1000:]}")
    return len(json.loads(path.read_text())["components"])


def main() -> int:
    programs = environment()
    status = 0
    for name, lock in LOCKS.items():
        packages = locked(lock)
        said, bad = licences(sorted(packages))
        print(
            f"{name}: {len(packages)} packages, all with hashes; licences of the {len(said)} that are installed here: {len(bad)} to look at"
        )
        for line in bad:
            print(f"  {line}")
        known, why = vulnerabilities(programs, lock)
        print(
            f"  vulnerabilities: {'; '.join(known) or ('none known' if not why else 'none known of those that could be asked')}{f' ({why})' if why else ''}"
        )
        path = ROOT / "build" / f"sbom-{name}.json"
        print(f"  {path.relative_to(ROOT)}: {bill_of_materials(programs, lock, path)} components")
        status |= bool(known or bad)
    return status


if __name__ == "__main__":
    sys.exit(main())
