"""Imports point one way only: each room of nvr/ imports what this table allows, and heavy packages have one place each."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EVERYTHING = "everything"

# room: what it may import, and with it all that those may import. Every room stands behind the ones it imports.
ROOMS: dict[str, str] = {
    "errors": "",
    "crc": "",
    "durable": "",
    "gather": "crc",
    "media": "gather",
    "arena": "gather errors",
    "scene": "",
    "clock": "media",
    "systemd": "",
    "troubles": "clock",
    "http_connection": "",
    "installed": "",
    "priority": "",
    "wire": "media scene errors",
    "h264": "media errors",
    "fmp4": "media h264",
    "mp4file": "fmp4",
    "byte_stream": "h264 gather arena",
    "evidence": "media errors durable",
    "verify_clip": "",  # one file that a court's expert can read: nothing of ours
    "timeline": "clock",
    "journal": "timeline errors durable",
    "rtsp": "media h264 arena",
    "source": "rtsp clock mp4file byte_stream",
    "ring": "fmp4 evidence clock timeline",
    "site": "scene ring durable",  # of the ring only layout.py: what a budget takes of the disk
    "ledger": "ring clock journal",
    "announce": "media",
    "hearing": "announce",
    "stream": "source ring journal",
    "recorder": "stream source ring announce journal systemd",
    "detect": "scene media h264",
    "rules": "scene site",
    "events": "scene errors",
    "wear": "ring",
    "scrub": "ring systemd priority wear clock",
    "looking": "detect rules events recorder priority",  # the detect process around the pure files of detect/
    "clips": "ring evidence ledger verify_clip",
    "uplink": "installed wire clips ledger events hearing site systemd scrub priority troubles detect looking",
    "web": "installed hearing clips ledger site systemd events scrub http_connection troubles",
    "hub": "wire evidence verify_clip systemd http_connection",
    "child": "systemd",
    "processes": "site recorder",
    "watching": "processes child troubles",
    "box": EVERYTHING,
    "cli": EVERYTHING,
}

# Files beside a room that belong to it.
LOOKING = ("detect.__main__", "detect.process", "detect.looker", "detect.feeds")
BELONGS = {
    "parameter_sets": "h264",
    "clip_plan": "clips",
    "clip_file": "clips",
    "journal_pages": "journal",
    "_fast": "crc",
    "__main__": "cli",
    "__init__": "errors",
}

# Foreign packages: the only files or folders of nvr/ that may import them.
PACKAGES: dict[str, tuple[str, ...]] = {
    "ai_edge_litert": ("detect/objects.py",),
    "alembic": ("hub/",),
    "apprise": ("hub/",),
    "argon2": ("web/access.py", "hub/"),
    "boto3": ("hub/",),
    "botocore": ("hub/",),
    "click": ("cli/",),
    "crc32c": ("crc.py",),
    "cryptography": ("evidence.py", "hub/people/sealed.py"),
    "fastapi": ("hub/",),
    "httpx": ("uplink/", "hub/"),
    "paho": ("hub/",),
    "prometheus_client": ("hub/",),
    "psycopg": ("hub/",),
    "pydantic": ("hub/",),
    "pyotp": ("hub/",),
    "sqlalchemy": ("hub/",),
    "starlette": ("web/", "hub/"),
    "systemd": ("systemd.py",),
    "tflite_runtime": ("detect/objects.py",),
    "uvicorn": ("web/", "hub/", "http_connection.py"),
    "websockets": ("web/", "uplink/", "hub/"),
    "yaml": ("site", "hub/settings.py"),
}
# Large ones, or such that many machines do not have: one file each, whichever it is.
# PyAV has two: what decodes for detection, and what opens USB cameras in their feeder. Neither is in `record`.
FILES_OF = {"av": 2}
ONE_FILE = ("ai_edge_litert", "av", "libcamera", "picamera2", "pyudev", "systemd", "tflite_runtime")


@cache
def files() -> tuple[Path, ...]:
    return tuple(sorted((ROOT / "nvr").rglob("*.py")))


def room_of(name: str) -> str:
    """The room of a module `nvr.name...`."""
    if name in LOOKING:
        return "looking"
    first = name.split(".")[0]
    if first.startswith("site_"):
        return "site"
    return BELONGS.get(first, first)


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names of all that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            assert node.module is not None
            if node.module == "nvr":
                found |= {f"nvr.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return frozenset(found)


def name_in_package(path: Path) -> str:
    return path.relative_to(ROOT / "nvr").as_posix()


@cache
def allowed(room: str) -> frozenset[str]:
    """All that a room may import, directly or through others."""
    if ROOMS[room] == EVERYTHING:
        return frozenset(ROOMS)
    direct = ROOMS[room].split()
    return frozenset({room, *direct}.union(*(allowed(each) for each in direct)))


def test_every_file_is_in_a_room_of_the_table():
    rooms = {room_of(name_in_package(path).removesuffix(".py").replace("/", ".")) for path in files()}
    assert rooms <= set(ROOMS), f"rooms without a line in the table: {rooms - set(ROOMS)}"


def test_the_table_has_no_circle_and_points_up_only():
    order = list(ROOMS)
    for room, others in ROOMS.items():
        for other in () if others == EVERYTHING else others.split():
            assert order.index(other) < order.index(room), f"{room} stands before {other}, which it imports"


@pytest.mark.parametrize("path", files(), ids=name_in_package)
def test_a_file_imports_only_what_its_room_may(path):
    name = name_in_package(path)
    room = room_of(name.removesuffix(".py").replace("/", "."))
    for module in imports(path):
        if module.startswith("nvr.") and module != "nvr.__version__":
            other = room_of(module.removeprefix("nvr."))
            assert other in allowed(room), (
                f"nvr/{name} imports {module}; the room {room} may import {sorted(allowed(room))}"
            )


def test_no_two_files_import_each_other_on_whatever_way():
    """An import inside a function counts, and so does one for types alone: a circle is a wall that stands wrong."""
    paths = [path for top in ("nvr", "firmware", "image", "tools") for path in (ROOT / top).rglob("*.py")]
    modules = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
        for path in paths
        if "node_modules" not in path.parts
    }
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        graph[name] = {
            f"{node.module}.{each.name}" if f"{node.module}.{each.name}" in modules else str(node.module)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        } & (modules.keys() - {name})
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", PACKAGES)
def test_a_foreign_package_stays_where_it_belongs(package):
    for path in files():
        name = name_in_package(path)
        if any(module.split(".")[0] == package for module in imports(path)):
            assert name.startswith(PACKAGES[package]), f"nvr/{name} imports {package}"


@pytest.mark.parametrize("package", ONE_FILE)
def test_a_heavy_package_is_imported_in_one_file(package):
    users = [
        name_in_package(path) for path in files() if any(module.split(".")[0] == package for module in imports(path))
    ]
    assert len(users) <= FILES_OF.get(package, 1)


def test_every_foreign_package_has_a_line_in_the_table():
    known = {*PACKAGES, *ONE_FILE, "numpy", "nvr"}
    for path in files():
        for module in imports(path):
            package = module.split(".")[0]
            assert package in known or package in sys.stdlib_module_names, (
                f"nvr/{name_in_package(path)} imports {package}"
            )


def test_the_verifier_for_courts_needs_nothing_but_python():
    for path in files():
        if name_in_package(path) == "verify_clip.py":
            assert all(module.split(".")[0] in sys.stdlib_module_names for module in imports(path))


def test_record_loads_nothing_heavy():
    """What `record` imports is memory on every box, and a way for it to fail."""
    code = "import sys, nvr.recorder, nvr.source.rtsp, nvr.source.replay; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "nvr" in loaded
    assert importlib.util.find_spec("nvr._fast") is None or not loaded & {"crc32c", "email", "argparse"}
    heavy = {
        "numpy",
        "av",
        "yaml",
        "click",
        "starlette",
        "uvicorn",
        "cryptography",
        "argon2",
        "asyncio",
        "picamera2",
        "ssl",
    }
    assert loaded & heavy <= {"ssl"}, f"record loads {sorted(loaded & heavy)}"


def test_help_loads_nothing_heavy():
    """`nvr --help` answers at once, also on a small board."""
    code = "import sys, nvr.cli; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {
        "numpy",
        "av",
        "yaml",
        "starlette",
        "uvicorn",
        "cryptography",
        "argon2",
        "crc32c",
        "asyncio",
    }
