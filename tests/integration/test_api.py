"""The OpenAI API of `exo serve`: shapes, errors, cancelling, many at once."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import pytest
from conftest import Process, wait_until

CHAT = "/v1/chat/completions"


@pytest.fixture
def server(start: Callable[..., Process]) -> Process:
    return start("serve", "-m", "tiny").wait_healthy()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "temperature": 0,
            "max_tokens": 24, **more}


def stats(server: Process) -> dict[str, int]:
    (instance,) = server.get("/state")["instances"].values()
    return instance["shards"][0]["stats"]


def test_models(server: Process) -> None:
    listed = server.get("/v1/models")
    assert listed["object"] == "list" and listed["data"][0]["id"] == "tiny"
    assert server.get("/v1/models/tiny")["object"] == "model"
    missing = server.http("GET", "/v1/models/other")
    assert missing.status == 404 and "other" in missing.json["error"]["message"]


def test_chat_has_openais_shape(server: Process) -> None:
    reply = server.post(CHAT, chat("Hello!")).json
    assert reply["object"] == "chat.completion" and reply["id"].startswith("chatcmpl-")
    (choice,) = reply["choices"]
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    assert choice["finish_reason"] in ("stop", "length")
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_what_the_whole_reply_says(server: Process) -> None:
    whole = server.post(CHAT, chat("Tell me a story.")).json
    events = list(server.stream(CHAT, chat("Tell me a story.",
                                           stream_options={"include_usage": True})))
    assert events[-1] == "[DONE]"
    chunks = events[:-1]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_completions_take_text_and_ids(server: Process) -> None:
    body = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}
    reply = server.post("/v1/completions", body).json
    assert reply["object"] == "text_completion" and reply["choices"][0]["text"]
    assert server.post("/v1/completions", {**body, "prompt": [5, 6, 7]}).status == 200
    bad = server.post("/v1/completions", {**body, "prompt": [5, 99999999]})
    assert bad.status == 400 and bad.json["error"]["param"] == "prompt"


def test_seed_stop_and_logprobs(server: Process) -> None:
    def text(**more: Any) -> str:
        return server.post(CHAT, chat("Tell me a story.", temperature=1, **more)).json[
            "choices"][0]["message"]["content"]
    assert text(seed=3) == text(seed=3)
    assert text(seed=3) != text(seed=4)
    full = text(seed=3)
    word = full.split()[3]
    assert text(seed=3, stop=word) == full[:full.index(word)]
    reply = server.post(CHAT, chat("Hello!", logprobs=True, top_logprobs=3)).json
    content = reply["choices"][0]["logprobs"]["content"]
    assert len(content) == reply["usage"]["completion_tokens"]
    for entry in content:
        assert len(entry["top_logprobs"]) == 3 and entry["logprob"] <= 0
        assert entry["top_logprobs"][0]["token"] == entry["token"]


@pytest.mark.parametrize("change, param", [
    ({"temperature": -1}, "temperature"), ({"temperature": "hot"}, "temperature"),
    ({"max_tokens": -5}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"top_p": 2}, "top_p"), ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages"), ({"stop": 5}, "stop"), ({"n": 2}, "n"),
    ({"stream": "yes"}, "stream"), ({"seed": "x"}, "seed"), ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"top_logprobs": 3}, "top_logprobs"), ({"model": 7}, "model"), ({"tools": {}}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"frequency_penalty": -9}, "frequency_penalty"), ({"top_k": -1}, "top_k"),
])
def test_wrong_members_are_named(server: Process, change: dict[str, Any], param: str) -> None:
    reply = server.post(CHAT, {**chat("x"), **change})
    assert reply.status == 400
    error = reply.json["error"]
    assert error["param"] == param and f'"{param}"' in error["message"]
    assert error["type"] == "invalid_request_error"


def test_bad_bodies_and_routes(server: Process) -> None:
    assert server.http("POST", CHAT, b"{").status == 400
    assert server.http("POST", CHAT, b"[1]").status == 400
    assert server.http("POST", CHAT, b"\xff\xfe").status == 400
    assert server.http("POST", CHAT, b"[" * 100000).status == 400
    assert server.http("GET", CHAT).status == 405
    assert server.http("GET", "/nowhere").status == 404
    assert server.post(CHAT, {**chat("x"), "model": "no-such"}).status == 404
    assert server.post(CHAT, {**chat("x"), "model": "../../etc/passwd"}).status == 404
    assert server.healthy()


def test_a_prompt_beyond_the_context_is_refused_with_both_counts(server: Process) -> None:
    reply = server.post(CHAT, chat("word " * 4000))
    assert reply.status == 400
    error = reply.json["error"]
    assert error["code"] == "context_length_exceeded"
    assert "2048" in error["message"] and "tokens" in error["message"]


def test_many_at_once_get_what_one_alone_gets(server: Process) -> None:
    questions = [f"Tell me a story about number {i}." for i in range(12)]

    def ask(q: str) -> tuple[str, str]:
        reply = server.post(CHAT, chat(q, temperature=1, seed=11, exo_logits_hash=True)).json
        return reply["choices"][0]["message"]["content"], reply["exo_logits_sha256"]

    alone = [ask(q) for q in questions]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, questions))
    assert together == alone


def test_a_shared_prefix_is_computed_once(server: Process) -> None:
    system = "You are exo, a helpful cluster. " * 12
    body = chat("Hello!")
    body["messages"].insert(0, {"role": "system", "content": system})
    first = server.post(CHAT, {**body, "exo_logits_hash": True}).json
    second = server.post(CHAT, {**body, "exo_logits_hash": True}).json
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 32
    assert first["exo_logits_sha256"] == second["exo_logits_sha256"]


def test_a_client_that_leaves_cancels_its_answer(server: Process) -> None:
    for stream in (True, False):
        body = json.dumps(chat("Tell me a story.", max_tokens=1900, stream=stream, ignore_eos=True,
                               temperature=1)).encode()
        s = socket.create_connection(("127.0.0.1", server.api_port))
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))
        before = stats(server)["tokens"]
        wait_until("the answer runs", lambda: stats(server)["tokens"] > before + 5)
        s.close()

        def stands_still() -> bool:
            now = stats(server)["tokens"]
            time.sleep(0.6)  # counters are told twice a second
            return stats(server)["tokens"] == now

        wait_until("the answer stops", stands_still)
        assert stats(server)["tokens"] < before + 1900


def test_port_in_use_is_named(server: Process, start: Callable[..., Process]) -> None:
    other = start("serve", "-m", "tiny")
    other.stop()
    import subprocess
    from conftest import EXO
    done = subprocess.run([EXO, "serve", "-m", "tiny", "--port", str(server.api_port),
                           "--data-dir", str(other.data_dir)], capture_output=True, timeout=20)
    assert done.returncode == 1 and str(server.api_port).encode() in done.stderr
    assert done.stderr.count(b"\n") == 1 and b"with --port" in done.stderr
    done = subprocess.run([EXO, "node", "--api-port", str(server.api_port), "--no-discovery",
                           "--port", "0", "--data-dir", str(other.data_dir)],
                          capture_output=True, timeout=20)
    assert done.returncode == 1 and b"with --api-port" in done.stderr


def test_sigterm_ends_cleanly_in_mid_answer(start: Callable[..., Process]) -> None:
    server = start("serve", "-m", "tiny").wait_healthy()
    events = server.stream(CHAT, chat("Tell me a story.", max_tokens=1900, ignore_eos=True))
    next(events)
    assert server.stop() == 0
