"""Published clients, unchanged, against `exo serve`: OpenAI's own for JavaScript.

npm installs them into build/clients; without npm or its registry the tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest
from conftest import ROOT, Process, wait_until
from javascript import Unavailable, node, npm_install

SOURCES = ROOT / "tests" / "clients"
INSTALLED = ROOT / "build" / "clients"


def is_installed(wanted: dict[str, str]) -> bool:
    for name, version in wanted.items():
        package = INSTALLED / "node_modules" / name / "package.json"
        if not package.exists() or json.loads(package.read_text())["version"] != version:
            return False
    return True


@pytest.fixture(scope="module")
def clients() -> Path:
    """The folder of the client scripts, with what they import."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.iterdir():
        shutil.copy(source, INSTALLED)
    try:
        node()
        if not is_installed(json.loads((SOURCES / "package.json").read_text())["dependencies"]):
            npm_install(INSTALLED)
    except Unavailable as e:
        pytest.skip(f"published clients are not tested: {e}")
    return INSTALLED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(["serve", "-m", "tiny"], tmp_path_factory.mktemp("server"))
    try:
        yield process.wait_healthy()
    finally:
        process.stop()


def use(clients: Path, server: Process, check: str) -> None:
    done = subprocess.run(
        [node(), "openai.js", f"http://127.0.0.1:{server.api_port}/v1", check], cwd=clients,
        capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("check", ["models", "chat", "chat_logprobs", "stream", "stream_helper",
                                   "completions", "errors"])
def test_openai_client(clients: Path, server: Process, check: str) -> None:
    use(clients, server, check)


def test_openai_client_that_aborts_cancels_its_answer(clients: Path, server: Process) -> None:
    def tokens() -> int:
        (instance,) = server.get("/state")["instances"].values()
        return int(instance["shards"][0]["stats"]["tokens"])

    before = tokens()
    use(clients, server, "abort")

    def at_rest() -> bool:
        now = tokens()
        time.sleep(0.6)
        return tokens() == now

    wait_until("nothing is computed any more", at_rest, 5)
    assert tokens() - before < 1900
