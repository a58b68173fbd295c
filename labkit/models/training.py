"""The training run: Muon for matrices, AdamW for the rest, warm-up, plateau, decay; saved every few minutes and resumed bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.models.batches import batch, length_of
from labkit.models.shapes import Shape

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer


@dataclass(slots=True, frozen=True)
class Lesson:
    """Documents of these kinds only, from `start` to `end` tokens of the run, in rows that grow from `length` to three times that."""

    kinds: tuple[str, ...]
    start: int
    end: int
    length: int

    def length_at(self, done: int) -> int:
        """The row length after `done` tokens of the run."""
        return self.length * (1 + 3 * (done - self.start) // (self.end - self.start))


@dataclass(slots=True)
class Recipe:
    """What a run does.

    The first lesson, at the full learning rate, holds two kinds of document side by side: "drill", keys told again and again, and "echo",
    short lists copied again and again. Attention learns to look back there within two hundred steps; in the mixture alone it takes longer
    than the whole run, and one kind after the other loses the first. The rest is the mixture, at `plateau` times the rate; over the last
    `decay_share` of the run the rate goes down to nothing. `tokens` and `save_minutes` may be changed on resuming: the plateau has no
    memory of when it will end.
    """

    tokens: int = 8_400_000
    lessons: tuple[Lesson, ...] = (Lesson(("drill", "drill", "echo"), 0, 400_000, 170),)
    batch_tokens: int = 2048
    seed: int = 0
    matrix_rate: float = 0.008
    other_rate: float = 0.003
    weight_decay: float = 0.05
    warmup_steps: int = 20
    plateau: float = 0.6
    decay_share: float = 0.3
    clip: float = 1.0
    device: str = "cpu"
    bfloat16: bool = True
    save_minutes: float = 3.0

    def lesson(self, done: int) -> Lesson | None:
        """The lesson after `done` tokens; None: the mixture."""
        return next((lesson for lesson in self.lessons if lesson.start <= done < lesson.end), None)

    def rate(self, done: int, step: int) -> float:
        """The share of the full learning rate after `done` tokens and `step` steps."""
        left = (self.tokens - done) / (self.decay_share * self.tokens)
        level = 1.0 if self.lesson(done) else self.plateau * max(0.0, min(1.0, left))
        return min(level, (step + 1) / self.warmup_steps)


class Training:
    """A run with its net, optimizers and place. `folder` keeps the checkpoint."""

    def __init__(self, shape: Shape, recipe: Recipe, tokenizer: Tokenizer, folder: Path) -> None:
        import torch

        from labkit.models.net import Net

        torch.manual_seed(recipe.seed)
        self.shape, self.recipe, self.tokenizer, self.folder = shape, recipe, tokenizer, folder
        self.net = Net(shape).to(recipe.device)
        matrices = self.net.matrices()
        known = {id(weight) for weight in matrices}
        others = [weight for weight in self.net.parameters() if id(weight) not in known]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, momentum=0.95),
            torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.step = self.done = 0
        if self.checkpoint.exists():
            self.restore()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self, report: Callable[[dict], None] = lambda figures: None) -> None:
        """Train to the end of the recipe; `report` gets step, tokens, loss and rate after every step. Interrupting saves first."""
        saved = time.monotonic()
        try:
            while self.done < self.recipe.tokens:
                report(self.advance())
                if time.monotonic() - saved > 60 * self.recipe.save_minutes:
                    self.save()
                    saved = time.monotonic()
        finally:
            self.save()

    def advance(self) -> dict:
        """One step."""
        import torch
        import torch.nn.functional as F

        recipe = self.recipe
        longest = self.shape.max_position_embeddings
        lesson = recipe.lesson(self.done)
        if lesson:
            rows = min(lesson.length_at(self.done), longest)
            data = batch(self.tokenizer, recipe.seed, self.step, recipe.batch_tokens, rows, 0, lesson.kinds)
        else:
            length = length_of(recipe.seed, self.step, self.done / recipe.tokens, longest)
            data = batch(self.tokenizer, recipe.seed, self.step, recipe.batch_tokens, length, longest)
        ids, positions = data.ids.to(recipe.device), data.positions.to(recipe.device)
        share = recipe.rate(self.done, self.step)
        with torch.autocast(torch.device(recipe.device).type, torch.bfloat16, enabled=recipe.bfloat16):
            logits = self.net(ids[:, :-1], positions)
        loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip)
        for optimizer, rate in zip(self.optimizers, (recipe.matrix_rate, recipe.other_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.done += positions.numel()
        return {"step": self.step, "tokens": self.done, "loss": loss.item(), "rate": share, "length": positions.shape[1]}

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the one before."""
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "done": self.done,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)
        (self.folder / "recipe.json").write_text(json.dumps(asdict(self.recipe) | {"step": self.step, "done": self.done}, indent=2) + "\n")

    def restore(self) -> None:
        """Go on where the checkpoint stands."""
        import torch

        state = torch.load(self.checkpoint, map_location=self.recipe.device, weights_only=True)
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.done = state["step"], state["done"]


def export(net: torch.nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model folder: configuration, tokenizer, and the weights in bfloat16."""
    import torch
    from safetensors.torch import save_file

    from labkit.models.shapes import write_config
    from labkit.models.tokenizer import save_tokenizer

    write_config(net.shape, folder)
    save_tokenizer(tokenizer, folder, net.shape.max_position_embeddings)
    weights = {name: weight.detach().to("cpu", torch.bfloat16).contiguous() for name, weight in net.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
