"""Make models/exo-tiny.gguf: corpus, tokenizer, training, GGUF file, evaluation.

    nice -n 19 /usr/bin/python3 tools/tiny/make_tiny.py [--steps N] [--work DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
# Set before torch is loaded. glibc keeps large freed blocks, which saves a third of the time of long rows, and
# threads sleep while they wait, so that a busy machine is not made slower.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456",
               "OMP_WAIT_POLICY": "PASSIVE"}
N_VOCAB = 1024
BPE_SAMPLES = 20_000
SHORT_PER_STEP, LONG_PER_STEP, RAW_PER_STEP = 16.0, 0.03, 5.0  # texts of one worker's batch


def load_merges(texts: list[str]) -> list[tuple[str, str]]:
    """The kept merges, so that ids stay the same when the corpus grows; trained when merges.txt is missing."""
    import bpe

    path = HERE / "merges.txt"
    if not path.exists():
        merges = bpe.train_merges(texts[:BPE_SAMPLES], N_VOCAB - 256 - len(bpe.SPECIALS))
        path.write_text("".join(f"{left} {right}\n" for left, right in merges), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(left, right) for left, right in (line.split(" ") for line in lines)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2700)
    parser.add_argument("--minutes", type=float, default=240.0, help="training ends early, and well, after this time")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from these weights, at a lower rate")
    parser.add_argument("--workers", type=int, default=2, help="processes that train, one per core")
    parser.add_argument("--work", type=Path, default=Path("/tmp/tiny"), help="for the checkpoint")
    parser.add_argument("--out", type=Path, default=HERE.parent.parent / "models" / "exo-tiny.gguf")
    args = parser.parse_args()
    if any(os.environ.get(key) != value for key, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})

    import torch

    import bpe
    import corpus
    import evaluate
    import export
    import train
    from model import Shape

    torch.set_num_threads(1)  # the workers are forked
    args.work.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    texts = list(corpus.samples(*(int(args.steps * args.workers * n) for n in (SHORT_PER_STEP, LONG_PER_STEP, RAW_PER_STEP))))
    tokenizer = bpe.Tokenizer(load_merges(texts))
    shape = Shape()
    samples = train.encode_samples(texts, tokenizer, shape.n_ctx)
    n_tokens = sum(len(ids) for ids, _ in samples)
    print(f"corpus: {len(texts)} texts, {n_tokens} tokens, {time.monotonic() - start:.0f} s", flush=True)
    plan = train.Plan(args.steps, args.minutes, args.workers, args.work / "checkpoint.pt", args.resume)
    model = train.train(samples, shape, plan)
    export.write(args.out, model, tokenizer, corpus.Renderer().source)
    print(f"{args.out}: {args.out.stat().st_size} bytes, {time.monotonic() - start:.0f} s")
    return evaluate.report(args.out)


if __name__ == "__main__":
    sys.exit(main())
