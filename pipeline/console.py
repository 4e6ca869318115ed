"""Show the progress of a training on a terminal and in a log."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from pipeline.training.loop import Epoch


class EpochTable:
    """Progress: a bar on a terminal, and one fixed-width line per epoch on any output."""

    def __init__(self, epochs: int) -> None:
        self.bar = tqdm(total=epochs, unit="epoch", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> EpochTable:
        self.bar.write(f"{'epoch':>5} {'size':>4} {'train loss':>10} {'val loss':>8} {'val acc':>7}", file=sys.stdout)
        return self

    def row(self, row: Epoch) -> None:
        """Print the line of one epoch."""
        losses = f"{row.train_loss:>10.4f} {row.val_loss:>8.4f}"
        self.bar.write(f"{row.epoch:>5} {row.size:>4} {losses} {row.val_accuracy:>7.4f}", file=sys.stdout)
        sys.stdout.flush()
        self.bar.update()

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def resume_note(checkpoint: Path, key: str) -> str:
    """Return a line on the checkpoint that an interrupted training of this model and seed left, or "" without one."""
    if checkpoint.exists():
        return f"resumes from {checkpoint.name}\n"
    others = sorted(path.name for path in checkpoint.parent.glob(f"{key}-*.safetensors"))
    reason = "is of other settings, data, code or hardware and is not used here"
    return "".join(f"{name} in {checkpoint.parent.name}/ {reason}\n" for name in others)
