"""What a model thinks arrives apart from what it answers: in replies, streams, over two nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import Cluster, Process, run
from scripted import CONTROL, NORMAL, USER_DEFINED, Script, write_scripted

CHAT = "/v1/chat/completions"
MESSAGE = "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.thinking or '' }}" \
          "{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
HARMONY = Script(
    # names the channel's mark, as the published template does
    "{# <|channel|>final #}" + MESSAGE,
    {"<|start|>": CONTROL, "<|channel|>": CONTROL, "<|message|>": CONTROL, "<|end|>": CONTROL,
     "<|return|>": CONTROL, "<|call|>": CONTROL, "analysis": NORMAL, "final": NORMAL,
     "Thinking": NORMAL, "Answer": NORMAL, "again": NORMAL},
    {"assistant": ["<|channel|>"], "<|channel|>": ["analysis", "final"],
     "analysis": ["<|message|>"], "final": ["<|message|>"], "<|message|>": ["Thinking", "Answer"],
     "Thinking": ["<|end|>"], "<|end|>": ["<|start|>"], "<|start|>": ["t"], "t": ["<|channel|>"],
     "Answer": ["again"], "again": ["<|return|>"]})
THINK = Script(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>{{ '\n' }}",
    {"<think>": USER_DEFINED, "</think>": USER_DEFINED, "Thinking": NORMAL, "Answer": NORMAL,
     "again": NORMAL},
    {"\n": ["Thinking", "Answer"], "Thinking": ["</think>"], "</think>": ["\n"],
     "Answer": ["again"], "again": ["<|end_of_text|>"]})
SCRIPTS = {"harmony": HARMONY, "think": THINK}


@pytest.fixture(params=SCRIPTS)
def model(request: Any, tmp_path: Path) -> str:
    return write_scripted(SCRIPTS[request.param], tmp_path / "scripted.gguf")


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "temperature": 0,
            "presence_penalty": 2, "max_tokens": 30, **more}


def message(server: Process, **more: Any) -> tuple[dict[str, Any], str]:
    reply = server.post(CHAT, ask(**more))
    assert reply.status == 200, reply.body
    (choice,) = reply.json["choices"]
    return choice["message"], choice["finish_reason"]


def test_reasoning_is_apart(model: str, start: Callable[..., Process]) -> None:
    server = start("serve", "-m", model).wait_healthy()
    said, finish = message(server)
    assert said["content"] == "Answeragain" and said["reasoning_content"] == "Thinking"
    assert finish == "stop"
    chunks = [c["choices"][0] for c in server.stream(CHAT, ask()) if c != "[DONE]"]
    deltas = [c["delta"] for c in chunks]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "Thinking"
    assert "".join(d.get("content", "") for d in deltas) == "Answeragain"
    keys = [key for d in deltas for key in d if d[key] and key != "role"]
    assert keys == sorted(keys, reverse=True)  # all reasoning comes before the content
    assert chunks[-1]["finish_reason"] == "stop"


def test_limits_stops_and_logprobs(model: str, start: Callable[..., Process]) -> None:
    server = start("serve", "-m", model).wait_healthy()
    said, finish = message(server, stop=["Think", "again"])
    assert (said["content"], said["reasoning_content"], finish) == ("Answer", "Thinking", "stop")
    cut = 1 if "Thinking" == message(server, max_tokens=1)[0].get("reasoning_content") else 4
    said, finish = message(server, max_tokens=cut)
    assert (said["content"], said["reasoning_content"], finish) == ("", "Thinking", "length")
    reply = server.post(CHAT, ask(logprobs=True)).json["choices"][0]["logprobs"]["content"]
    assert [e["token"] for e in reply if e["token"] != "\n"] == ["Answer", "again"]
    raw = server.post("/v1/completions", {"model": "scripted", "prompt": "assistant",
                                          "max_tokens": 2, "temperature": 0}).json["choices"][0]
    assert "reasoning_content" not in raw


def test_the_command_line(model: str) -> None:
    asked = ["run", "-m", model, "-p", "hi", "--temp", "0", "--presence-penalty", "2", "-n", "30"]
    done = run(*asked)
    assert done.stdout == b"Answeragain\n" and done.stderr == b"Thinking\n\n"
    both = json.loads(run(*asked, "--json").stdout)
    assert (both["text"], both["reasoning"]) == ("Answeragain", "Thinking")


def test_earlier_reasoning_is_the_templates_choice(tmp_path: Path,
                                                   start: Callable[..., Process]) -> None:
    model = write_scripted(HARMONY, tmp_path / "scripted.gguf")
    server = start("serve", "-m", model).wait_healthy()

    def n_prompt(**reasoning: str) -> int:
        turns = [{"role": "user", "content": "a"},
                 {"role": "assistant", "content": "b", **reasoning},
                 {"role": "user", "content": "c"}]
        return server.post(CHAT, ask(messages=turns)).json["usage"]["prompt_tokens"]

    assert n_prompt(reasoning_content="xyz") == n_prompt() + 3  # this template shows "thinking"
    assert n_prompt(thinking="xy", reasoning_content="xyz") == n_prompt() + 2


def test_an_answer_of_another_node(tmp_path: Path, cluster: Callable[..., Cluster]) -> None:
    c = cluster(2, write_scripted(HARMONY, tmp_path / "scripted.gguf"))
    assert c.nodes[0].post("/place_instance", {"model_id": "scripted", "sharding": "Pipeline",
                                               "min_nodes": 1}).status == 200
    for node in c.nodes:
        said, _ = message(node)
        assert said["content"] == "Answeragain" and said["reasoning_content"] == "Thinking"
