"""The network: a small `llama` transformer, in the layout that GGUF files of that architecture use.

Owns the shape and the forward pass used in training. RoPE turns adjacent pairs of values (the NORM
style of llama.cpp's `llama` architecture), so the weights need no permutation when they are written.
Matrix products run in bfloat16 and everything else in float32: on the CPUs this was trained on,
Debian's torch multiplies bfloat16 two hundred times faster than float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

RECOMPUTE_ABOVE = 512  # positions; longer rows keep no scores for the backward pass, which saves gigabytes


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are exo-tiny's."""

    n_vocab: int = 1024
    n_embd: int = 256
    n_layer: int = 6
    n_head: int = 8
    n_head_kv: int = 4
    n_ff: int = 512
    n_ctx: int = 2048
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T in bfloat16."""
    return F.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16))


def norm_linear(x: Tensor, norm: Tensor, weight: Tensor, eps: float) -> Tensor:
    """linear(rms_norm(x) * norm, weight); the norm's weights are applied to the matrix, which is smaller than x."""
    return linear(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps), weight * norm)


def rope_table(shape: Shape, n_pos: int) -> Tensor:
    """The rotation of each pair at each position, as complex numbers (n_pos, 1, head_dim / 2)."""
    half = shape.head_dim // 2
    freq = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(n_pos, dtype=torch.float64)[:, None] * freq
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)[:, None, :]


def rope(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate adjacent pairs; x is (batch, n_pos, heads, head_dim)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2)


class Layer(nn.Module):
    """One block; q, k, v and gate, up are stored joined, and split when the file is written."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        n_kv = shape.n_head_kv * shape.head_dim
        self.attn_norm = nn.Parameter(torch.ones(shape.n_embd))
        self.qkv = nn.Parameter(torch.empty(shape.n_embd + 2 * n_kv, shape.n_embd))
        self.attn_output = nn.Parameter(torch.empty(shape.n_embd, shape.n_embd))
        self.ffn_norm = nn.Parameter(torch.ones(shape.n_embd))
        self.gate_up = nn.Parameter(torch.empty(2 * shape.n_ff, shape.n_embd))
        self.ffn_down = nn.Parameter(torch.empty(shape.n_embd, shape.n_ff))

    def attention(self, x: Tensor, turn: Tensor, mask: Tensor) -> Tensor:
        s = self.shape
        batch, n_pos, _ = x.shape
        n_kv = s.n_head_kv * s.head_dim
        q, k, v = norm_linear(x, self.attn_norm, self.qkv, s.norm_eps).split((s.n_embd, n_kv, n_kv), -1)
        q = rope(q.unflatten(-1, (s.n_head, s.head_dim)), turn) * s.head_dim**-0.5
        k = rope(k.unflatten(-1, (s.n_head_kv, s.head_dim)), turn)
        v = v.unflatten(-1, (s.n_head_kv, s.head_dim))
        group = s.n_head // s.n_head_kv
        # (batch * kv heads, group * n_pos, head_dim): the query heads of one group share k and v
        q = q.unflatten(2, (s.n_head_kv, group)).permute(0, 2, 3, 1, 4)
        q = q.reshape(batch * s.n_head_kv, group * n_pos, s.head_dim).to(torch.bfloat16)
        k = k.permute(0, 2, 3, 1).reshape(batch * s.n_head_kv, s.head_dim, n_pos).to(torch.bfloat16)
        v = v.transpose(1, 2).reshape(batch * s.n_head_kv, n_pos, s.head_dim)
        scores = torch.bmm(q, k).unflatten(1, (group, n_pos)).float() + mask
        probs = scores.softmax(-1).to(torch.bfloat16).flatten(1, 2)
        out = torch.bmm(probs, v).view(batch, s.n_head, n_pos, s.head_dim)
        return linear(out.transpose(1, 2).reshape(batch, n_pos, s.n_embd), self.attn_output)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(x, turn, mask)
        gate, up = norm_linear(x, self.ffn_norm, self.gate_up, self.shape.norm_eps).chunk(2, -1)
        return x + linear(F.silu(gate) * up, self.ffn_down)


class Model(nn.Module):
    """Token ids (batch, n_pos) to logits (batch, n_pos, n_vocab)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(torch.empty(shape.n_vocab, shape.n_embd))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.n_layer))
        self.output_norm = nn.Parameter(torch.ones(shape.n_embd))
        out_std = 0.02 * (2 * shape.n_layer) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("attn_output", "ffn_down"))
                nn.init.normal_(parameter, std=out_std if residual else 0.03)

    def forward(self, tokens: Tensor) -> Tensor:
        n_pos = tokens.shape[1]
        turn = rope_table(self.shape, n_pos)
        mask = torch.full((n_pos, n_pos), float("-inf")).triu(1)
        x = F.embedding(tokens, self.token_embd)
        for layer in self.layers:
            x = checkpoint(layer, x, turn, mask) if n_pos > RECOMPUTE_ABOVE else layer(x, turn, mask)
        return norm_linear(x, self.output_norm, self.token_embd, self.shape.norm_eps)
