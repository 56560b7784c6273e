"""The list of what is inside: SPDX 2.3 in JSON, every Debian package and every wheel with its version, source and licence text where it is told."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path

from image.cache import Made


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    size_kib: int
    source: str
    kind: str  # "deb" or "pypi"
    licence: str = ""


def listed(path: Path, kind: str) -> list[Package]:
    """Of a packages.tsv."""
    found = []
    for line in path.read_text().splitlines():
        name, version, size, source = line.split("\t")
        found.append(Package(name, version, int(size or 0), source, kind))
    return found


def document(
    packages: list[Package], *, name: str, version: str, architecture: str, suite: str, source_date: int, root_hash: str
) -> dict[str, object]:
    """SPDX 2.3, clauses 6 (document) and 7 (packages). Licences that no machine-readable file tells are NOASSERTION, not a guess."""
    entries = []
    for number, each in enumerate(sorted(packages, key=lambda package: (package.kind, package.name)), start=1):
        locator = (
            f"pkg:deb/debian/{each.name}@{each.version}?arch={architecture}&distro={suite}"
            if each.kind == "deb"
            else f"pkg:pypi/{each.name}@{each.version}"
        )
        entries.append({
            "SPDXID": f"SPDXRef-{number}-{re.sub(r'[^A-Za-z0-9.-]', '-', each.name)}", "name": each.name, "versionInfo": each.version,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": False, "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION", "sourceInfo": f"source package {each.source}",
            **({"licenseComments": each.licence} if each.licence else {}),
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}],
        })  # fmt: skip
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"nvr image {name} {version}",
        "documentNamespace": f"https://nvr.invalid/sbom/{name}/{version}/{root_hash}",
        "creationInfo": {"created": datetime.fromtimestamp(source_date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: nvrctl image build"]},
        "packages": entries,
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": entry["SPDXID"]} for entry in entries],
    }  # fmt: skip


def packages_of(base: Made, kernel: Made, wheels: Made) -> list[Package]:
    """Everything in an image. Licences of Debian packages: the `License:` fields of copyright files in the machine-readable form (DEP 5)."""
    debian = listed(base.path / "packages.tsv", "deb") + listed(kernel.path / "packages.tsv", "deb")
    folders = [base.path / "tree/usr/share/doc", kernel.path / "tree/usr/share/doc"]
    python = [
        Package(each.name, each.version, each.size_kib, each.source, "pypi", _wheel_licence(wheels.path / "site", each))
        for each in listed(wheels.path / "packages.tsv", "pypi")
    ]
    return [
        Package(each.name, each.version, each.size_kib, each.source, each.kind, _debian_licence(folders, each.name))
        for each in debian
    ] + python


def _debian_licence(folders: list[Path], name: str) -> str:
    for folder in folders:
        path = folder / name / "copyright"
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        if "format/1.0" in text[:400]:
            return " AND ".join(sorted(set(re.findall(r"^License:\s*(\S[^\n]*)$", text, re.MULTILINE))))[:500]
    return ""


def _wheel_licence(site: Path, package: Package) -> str:
    path = site / f"{package.name}-{package.version}.dist-info" / "METADATA"
    if not path.exists():
        return ""
    told = HeaderParser().parsestr(path.read_text("utf-8"))
    classified = [
        each.rpartition(" :: ")[2] for each in told.get_all("Classifier", []) if each.startswith("License ::")
    ]
    return str(told.get("License-Expression") or ", ".join(classified) or (told.get("License") or "")[:80])


def write(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
