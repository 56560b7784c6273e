"""What all tests share: where real footage is, what a marked test needs, and why it is skipped where that is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# A test that hypothesis thinks slow on a busy machine is not wrong.
try:
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "nvr", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
    )
    settings.load_profile("nvr")
except ImportError:
    pass


@cache
def has_rtsp_server() -> bool:
    """GStreamer's RTSP server, for the python that Debian installs it for."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def faketime_library() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def missing_for(marker: str) -> str:
    """Why a test with this marker cannot run here; "" when it can."""
    if marker == "root" and os.geteuid() != 0:
        return "needs root"
    if marker == "gst" and not has_rtsp_server():
        return (
            "needs GStreamer's RTSP server: apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good"
        )
    if marker == "browser" and (chromium() is None or shutil.which("chromedriver") is None):
        return "needs Chromium and its driver: apt install chromium chromium-driver"
    if marker == "faketime" and faketime_library() is None:
        return "needs libfaketime: apt install libfaketime"
    if marker == "postgres" and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return "needs PostgreSQL: apt install postgresql"
    if marker == "s3" and not all(map(shutil.which, ("swift-proxy-server", "swift-object-server", "memcached"))):
        return (
            "needs a store that speaks S3: apt install swift-proxy swift-account swift-container swift-object memcached"
        )
    if marker == "nginx" and shutil.which("nginx") is None:
        return "needs nginx: apt install nginx-light"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("root", "gst", "browser", "faketime", "postgres", "s3", "nginx"):
        if item.get_closest_marker(marker) and (reason := missing_for(marker)):
            pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real footage and what real cameras answered; lies beside the repository and is never part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs real footage and transcripts in ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="session")
def real_footage(shared_data: Path) -> Path:
    """The folder of real films."""
    folder = shared_data / "video"
    if not folder.is_dir():
        pytest.skip("needs real footage in ../shared/data/video")
    return folder


def needs(module: str) -> pytest.MarkDecorator:
    """Skips where a package that the recorder can do without is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs the package {module}")
