"""A prompt that takes long to read: the client is kept informed, others are served."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any, Callable

from conftest import Process, wait_until

READING_S = 9  # the server says "keep-alive" after 5 s of silence


def body(n_tokens: int, first: int, **more: Any) -> dict[str, Any]:
    """A prompt of ids that begins like no other, so that nothing of it is cached."""
    prompt = [300 + first] + [300 + i % 200 for i in range(n_tokens - 1)]
    return {"model": "smollm2-135m-f32-8", "prompt": prompt, "max_tokens": 1, **more}


def tokens_that_take(seconds: float, server: Process) -> int:
    n = 48
    started = time.monotonic()
    assert server.post("/v1/completions", body(n, 0)).status == 200
    return min(8000, int(n * seconds / (time.monotonic() - started)))


def test_keep_alive_while_a_long_prompt_is_read(models: Callable[..., str],
                                                start: Callable[..., Process]) -> None:
    server = start("serve", "-m", models("smollm2-135m", "f32", 8), "--threads", "1",
                   "--chunk", "4").wait_healthy()  # small steps: slow on any machine
    n = tokens_that_take(READING_S, server)
    connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=20)
    started = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body(n, 1, stream=True)).encode())
    reply = connection.getresponse()
    assert reply.status == 200
    assert time.monotonic() - started < 2.5, "a stream begins within a second"
    assert server.healthy(), "others are served meanwhile"
    line = reply.readline()
    waited = time.monotonic() - started
    assert line == b": keep-alive\n", (line, n, waited)
    assert 4.5 < waited < 7
    connection.close()  # reading stops, too: the next answer comes at once

    def rows() -> int:
        (instance,) = server.get("/state")["instances"].values()
        return int(instance["shards"][0]["stats"]["rows"])

    def stopped() -> bool:
        before = rows()
        time.sleep(0.6)
        return rows() == before

    wait_until("the prompt is no longer read", stopped, 3)
    assert rows() < n
