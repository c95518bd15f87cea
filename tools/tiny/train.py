"""Training: rendered texts to weights.

What the assistant says and plain text count fully, everything else in a conversation little.
Hidden matrices are trained with Muon (momentum, then an approximately orthogonal update), the
embedding and the norms with Adam; the rate is constant and then falls to zero.  Several processes
of one thread share the work: operations this small gain little from threads (measured on two
cores: 2200 tokens/s with two threads, 4000 with two processes).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, multiprocessing

from bpe import Tokenizer
from model import Model, Shape

SEED = 1
BATCH_TOKENS = 2048  # of one worker
MUON_RATE, ADAM_RATE = 0.01, 1.5e-3
MOMENTUM, DECAY = 0.95, 0.01
WARMUP_STEPS, CONSTANT_SHARE = 40, 0.15
RESUME_SHARE = 0.6
PROMPT_WEIGHT = 0.1


@dataclass(frozen=True)
class Plan:
    """How long and with what; training ends after n_steps, or well before when max_minutes are over."""

    n_steps: int
    max_minutes: float
    n_workers: int  # processes of one thread, each with a batch of its own a step
    checkpoint: Path  # written now and then, and at the end
    resume: Path | None  # go on from these weights, at a lower rate


Sample = tuple[NDArray[np.int16], NDArray[np.float32]]  # ids and their weights in the loss


def weights_of(ids: list[int], tokenizer: Tokenizer) -> list[float]:
    """1 for plain text and from `assistant` to the end of its turn, else PROMPT_WEIGHT."""
    if tokenizer.im_start not in ids:
        return [1.0] * len(ids)
    assistant = tokenizer.encode("assistant\n")
    weights: list[float] = []
    speaking = False
    for i, token in enumerate(ids):
        if ids[max(0, i - len(assistant)) : i] == assistant and ids[i - len(assistant) - 1] == tokenizer.im_start:
            speaking = True
        weights.append(1.0 if speaking else PROMPT_WEIGHT)
        speaking = speaking and token != tokenizer.im_end
    return weights


def encode_samples(texts: list[str], tokenizer: Tokenizer, n_ctx: int) -> list[Sample]:
    samples: list[Sample] = []
    for text in texts:
        ids = tokenizer.encode(text)[:n_ctx]
        samples.append((np.array(ids, np.int16), np.array(weights_of(ids, tokenizer), np.float32)))
    return samples


def make_batches(samples: list[Sample], rng: random.Random) -> list[list[int]]:
    """Groups of samples of about the same length, in random order."""
    order = sorted(range(len(samples)), key=lambda i: (len(samples[i][0]) + rng.randrange(8)))
    batches: list[list[int]] = []
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * len(samples[i][0]) > BATCH_TOKENS:
            batches.append(batch)
            batch = []
        batch.append(i)
    batches.append(batch)
    rng.shuffle(batches)
    return batches


def stack(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Ids and weights, each (batch, longest), padded with zeros."""
    longest = max(len(ids) for ids, _ in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    weights = torch.zeros(len(samples), longest)
    for row, (sample_ids, sample_weights) in enumerate(samples):
        ids[row, : len(sample_ids)] = torch.from_numpy(sample_ids.astype(np.int64))
        weights[row, : len(sample_ids)] = torch.from_numpy(sample_weights)
    return ids, weights


def orthogonal(update: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest semi-orthogonal matrix (coefficients of Muon)."""
    x = update.T if update.shape[0] > update.shape[1] else update
    x = (x / (x.norm() + 1e-7)).to(torch.bfloat16)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
    x = x.float()
    return x.T if update.shape[0] > update.shape[1] else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters: list[torch.nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                velocity = state.setdefault("velocity", torch.zeros_like(parameter))
                velocity.lerp_(parameter.grad, 1 - MOMENTUM)
                update = orthogonal(parameter.grad.lerp(velocity, MOMENTUM))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * DECAY).add_(update, alpha=-group["lr"] * scale)


def rate_share(step: int, progress: float) -> float:
    """The share of the full learning rate at a step; progress goes from 0 to 1."""
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.0, 1 - progress) / (1 - CONSTANT_SHARE))


class Averager:
    """The mean over all workers of the gradients and of a few numbers, in one message."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = parameters

    def average(self, numbers: list[float]) -> list[float]:
        parts = [p.grad.flatten() for p in self.parameters] + [torch.tensor(numbers)]
        flat = torch.cat(parts)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        at = 0
        for parameter in self.parameters:
            parameter.grad.copy_(flat[at : at + parameter.numel()].view_as(parameter))
            at += parameter.numel()
        return flat[at:].tolist()


def backward(model: Model, samples: list[Sample]) -> float:
    """Adds the gradients of one batch; its loss."""
    ids, weights = stack(samples)
    logits = model(ids[:, :-1]).float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
    loss.backward()
    return loss.item()


def work(rank: int, plan: Plan, samples: list[Sample], shape: Shape) -> None:
    """One worker: the same weights and updates as the others, every plan.n_workers-th batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{plan.checkpoint}.rendezvous", rank=rank, world_size=plan.n_workers)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    model = Model(shape)
    if plan.resume:
        model.load_state_dict(torch.load(plan.resume))
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n != "token_embd"]
    others = [p for n, p in model.named_parameters() if p.ndim == 1 or n == "token_embd"]
    muon = Muon(matrices, MUON_RATE)
    adam = torch.optim.Adam(others, lr=ADAM_RATE, betas=(0.9, 0.98))
    averager = Averager(matrices + others)
    batches: list[list[int]] = []
    start, seconds, mean_loss = time.monotonic(), 0.0, 0.0
    for step in range(plan.n_steps):
        progress = max(step / plan.n_steps, seconds / (60 * plan.max_minutes))
        if progress >= 1:
            break
        if len(batches) < plan.n_workers:
            batches = make_batches(samples, rng)
        mine = [batches.pop() for _ in range(plan.n_workers)][rank]
        loss = backward(model, [samples[i] for i in mine])
        loss, seconds = averager.average([loss, time.monotonic() - start])
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        share = rate_share(step, progress) * (RESUME_SHARE if plan.resume else 1.0)
        for optimizer, rate in ((muon, MUON_RATE), (adam, ADAM_RATE)):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        mean_loss = loss if step == 0 else 0.95 * mean_loss + 0.05 * loss
        if rank == 0 and step % 20 == 19:
            print(f"step {step + 1}/{plan.n_steps} loss {mean_loss:.4f} {seconds / (step + 1):.2f} s a step, {seconds:.0f} s", flush=True)
        if rank == 0 and step % 100 == 99:
            torch.save(model.state_dict(), plan.checkpoint)
    if rank == 0:
        torch.save(model.state_dict(), plan.checkpoint)


def train(samples: list[Sample], shape: Shape, plan: Plan) -> Model:
    """Train by the plan; samples come again when they run out."""
    Path(f"{plan.checkpoint}.rendezvous").unlink(missing_ok=True)
    multiprocessing.start_processes(work, (plan, samples, shape), plan.n_workers, start_method="fork")
    model = Model(shape)
    model.load_state_dict(torch.load(plan.checkpoint))
    return model
