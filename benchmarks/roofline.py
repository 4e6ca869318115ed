"""Measure how near training comes to what the machine can do, and what the rest of the time is spent on.

    python -m benchmarks.roofline [--recipe fast] [--rounds 5] [--compile]

The peak is that of a large matrix product on all cores. Then, for every recipe: whole steps (augment,
forward, loss, backward, SGD, moving average) under the settings of stages.train; each convolution of the
network on its own; a profile of the step by kind of operator; what an epoch of FER-2013 holds beside its
steps; and the step with one setting changed at a time. Seconds are the best of several rounds in turns, except for the
profile's, which are means. On a GPU steps are started one by one here, so that they have parts to be timed; training
records and replays them there (benchmarks.replay).
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import torch

from benchmarks.machine import header
from benchmarks.operators import (
    BACKWARD,
    DATA_GRADIENT,
    DIRECTIONS,
    OTHER,
    WEIGHT_GRADIENT,
    Convolution,
    convolutions,
    kernel_share,
    reorders,
    spent,
)
from benchmarks.peaks import DTYPES, measure, peaks_table
from benchmarks.timing import Case, alternate, rounds_option, table, waiting
from benchmarks.workload import VALIDATION, Workload, an_epoch, random_images
from pipeline import cli, config
from pipeline.cli import Name, Number
from pipeline.tracking import client
from pipeline.training import autotune
from pipeline.training.hardware import Hardware, set_up

ALL_THREADS = torch.get_num_threads()
"""Before any setting changes it."""
PROFILED = 10
"""Steps under the profiler."""


class Roofline:
    """One recipe, measured and set in tables. peak: FLOP/s of a matrix product in the precision used."""

    def __init__(self, params: config.Params, recipe: str, hardware: Hardware, peak: float, rounds: int) -> None:
        self.params, self.name, self.recipe = params, recipe, params.recipes[recipe]
        self.hardware, self.peak, self.rounds = hardware, peak, rounds
        self.workload = Workload(params, recipe, hardware)
        self.sizes = sorted(set(self.recipe.sizes))
        self.size = self.sizes[-1]
        self.step = waiting(partial(self.workload.step, self.size))

    def tables(self, folder: Path, compiled: bool) -> Iterator[str]:
        recipe = self.recipe
        yield f"Recipe {self.name}: widths {recipe.widths}, batches of {recipe.batch_size}, {self.hardware}"
        yield self.steps()
        yield self.convolutions()
        yield self.profile()
        yield self.epoch(folder)
        yield self.experiments(compiled)

    @cached_property
    def seconds(self) -> dict[tuple[str, int], float]:
        """Return the seconds of a whole step and of its augmentation alone, by size."""
        cases: dict[tuple[str, int], Case] = {}
        for size in self.sizes:
            cases["step", size] = waiting(partial(self.workload.step, size))
            rows = self.workload.next_rows()
            cases["augment", size] = waiting(partial(self.workload.augment, rows, size))
        return alternate(cases, self.rounds)

    def steps(self) -> str:
        """Return the table of whole steps at every size."""
        lines, batch = [], self.recipe.batch_size
        for size in self.sizes:
            took, flop = self.seconds["step", size], self.workload.flop(size)
            cells = [f"{flop / batch / 1e6:.0f}", f"{took * 1e3:.1f}", f"{batch / took:,.0f}"]
            lines.append([f"{size} px", *cells, *self.speed(flop, took)])
        return table(["whole step", "MFLOP/image", "ms", "images/s", "GFLOP/s", "of the peak"], lines)

    @cached_property
    def layers(self) -> list[Convolution]:
        images = self.workload.augment(self.workload.next_rows(), self.size)
        network, dtype = self.workload.trainer.network, DTYPES[self.hardware.precision]
        return convolutions(network, images, dtype, self.hardware.layout)

    @cached_property
    def alone(self) -> dict[tuple[str, str], float]:
        """Return the seconds of each convolution on its own, by layer and direction."""
        return alternate(
            {(layer.name, way): waiting(case) for layer in self.layers for way, case in layer.cases().items()},
            self.rounds,
        )

    def total(self, way: str) -> tuple[int, float]:
        """Return FLOP and seconds of one direction of all convolutions on their own."""
        there = [layer for layer in self.layers if (layer.name, way) in self.alone]
        return sum(layer.flop for layer in there), sum(self.alone[layer.name, way] for layer in there)

    def convolutions(self) -> str:
        """Return the table of every layer and direction on its own."""
        lines = []
        for layer in self.layers:
            inputs, height = layer.images.shape[1:3]
            shape = f"{inputs} -> {len(layer.weight)}, {height} px"
            line = [layer.name, shape, f"{layer.flop / 1e9:.2f}", f"{layer.intensity:.0f}"]
            for way in DIRECTIONS:
                line += self.speed(layer.flop, self.alone.get((layer.name, way)))
            lines.append(line)
        sums = [cell for way in DIRECTIONS for cell in self.speed(*self.total(way))]
        lines.append(["all", "", "", "", *sums])
        headings = [heading for way in DIRECTIONS for heading in (f"{way}, GFLOP/s", "of the peak")]
        return table(["convolution alone", "channels, side", "GFLOP", "FLOP/byte", *headings], lines)

    def profile(self) -> str:
        """Return where a step's time goes. One operator computes both gradients, split as they are alone."""
        found = spent(self.step, PROFILED)
        seconds, calls = dict(found.seconds), dict(found.calls)
        backward, times = seconds.pop(BACKWARD), calls.pop(BACKWARD)
        both = self.total(DATA_GRADIENT)[1] + self.total(WEIGHT_GRADIENT)[1]
        for way in (DATA_GRADIENT, WEIGHT_GRADIENT):
            kind = f"convolution, {way}"
            seconds[kind], calls[kind] = backward * self.total(way)[1] / both, times
        flop = {f"convolution, {way}": self.total(way)[0] for way in DIRECTIONS}

        whole = sum(seconds.values())
        lines = []
        for kind, took in sorted(seconds.items(), key=lambda item: -item[1]):
            cells = [f"{calls.get(kind, 0):.0f}", f"{took * 1e3:.2f}", per_cent(took / whole)]
            lines.append([kind, *cells, *self.speed(flop.get(kind, 0), took)])
        total = self.speed(sum(flop.values()), whole)
        lines.append(["whole step", "", f"{whole * 1e3:.2f}", per_cent(1), *total])
        headings = [f"{self.size} px, profiled", "calls", "ms", "of the step", "GFLOP/s", "of the peak"]
        others = f"largest of the {OTHER}: {', '.join(found.other) or 'none'}"
        return "\n".join([table(headings, lines), others, *self.hidden_costs()])

    def hidden_costs(self) -> Iterator[str]:
        """Return what the profiler counts as part of other operators."""
        usual = self.seconds["step", self.size]
        yield f"the same step without the profiler: {usual * 1e3:.2f} ms"
        if (copies := reorders(self.step)) is not None:
            count, took = copies
            yield (
                f"reorders between layouts within convolutions: {count} in {took * 1e3:.2f} ms, "
                f"{per_cent(took / usual)} of the step"
            )
        kernel = kernel_share(self.step, PROFILED)
        yield f"in the system's kernel (pages of new memory, waking threads): {per_cent(kernel)} of processor time"

    def epoch(self, folder: Path) -> str:
        """Return the table of the recipe's mean epoch on FER-2013: its steps and everything else that training does."""
        sizes = [self.recipe.size_in(epoch) for epoch in range(self.recipe.epochs)]
        step, augmenting = (
            self.workload.batches * fmean(self.seconds[what, size] for size in sizes) for what in ("step", "augment")
        )
        validation = random_images(VALIDATION).to(self.hardware.device)
        numbers = itertools.count()
        with client.run("roofline", self.name, f"roofline-{self.name}", {}) as run:
            cases: dict[str, Case] = {
                "random numbers": waiting(self.workload.draw),
                "validation": waiting(partial(self.workload.validate, validation)),
                "checkpoint and copy of the best weights": partial(self.workload.save, folder),
                "row of the history in MLflow": lambda: run.curve([asdict(an_epoch(next(numbers)))], "epoch"),
            }
            beside = alternate(cases, self.rounds, turn=0)
            taken, inside = self.workload.trained_epoch(
                self.size, validation, folder, lambda epoch: run.curve([asdict(epoch)], "epoch")
            )
        whole = step + sum(beside.values())
        parts = {
            "forward, backward, update": step - augmenting,
            "augmentation": augmenting,
            **beside,
            "whole epoch": whole,
            "outside forward, backward, update": whole - step + augmenting,
        }
        lines = [[name, f"{took:.3f}", per_cent(took / whole)] for name, took in parts.items()]
        return (
            f"{table(['epoch of FER-2013', 'seconds', 'of the epoch'], lines)}\n"
            f"an epoch at {self.size} px as stages.train runs it: {taken:.1f} s, "
            f"{per_cent(1 - inside / taken)} outside forward, backward, update"
        )

    def experiments(self, compiled: bool) -> str:
        """Return the table of the step with one setting changed at a time."""
        hardware = self.hardware
        cases = {str(hardware): self.step}
        precision = "fp32" if hardware.precision == "bf16" else "bf16"
        layout = "contiguous" if hardware.memory_format == "channels_last" else "channels_last"
        cases[precision] = self.other(precision=precision)
        cases[layout] = self.other(memory_format=layout)
        if hardware.device == "cpu":
            for threads in sorted({1, ALL_THREADS} - {hardware.threads}):
                case = self.switched(torch.set_num_threads, threads, hardware.threads)
                cases[f"threads: {threads}"] = case
            cases["denormal numbers kept (main thread)"] = self.switched(torch.set_flush_denormal, False, True)
        cases["new memory filled"] = self.switched(fill_new_memory, True, False)
        cases["algorithms free to vary"] = self.switched(torch.use_deterministic_algorithms, False, True)
        note = ""
        if compiled:
            cases["compiled"] = self.other(compile=True)
            start = time.perf_counter()
            cases["compiled"]()
            note = f"\nfirst compiled step: {time.perf_counter() - start:.0f} s"

        seconds = alternate(cases, self.rounds)
        lines = [[name, f"{took * 1e3:.1f}", f"{took / seconds[str(hardware)]:.2f}"] for name, took in seconds.items()]
        return table([f"{self.size} px, one setting changed", "ms", "times as long"], lines) + note

    def other(self, **change: Any) -> Case:
        """Return the seconds of the step on other hardware settings."""
        workload = Workload(self.params, self.name, replace(self.hardware, **change))
        return waiting(partial(workload.step, self.size))

    def switched(self, switch: Callable[[Any], object], value: Any, usual: Any) -> Case:
        """Return the seconds of the step after `switch(value)`; `switch(usual)` follows."""

        def case() -> None:
            switch(value)
            try:
                self.step()
            finally:
                switch(usual)

        return case

    def speed(self, flop: float, seconds: float | None) -> list[str]:
        """Return two cells: GFLOP/s and the share of the peak; empty where nothing is computed."""
        if not flop or not seconds:
            return ["", ""]
        return [f"{flop / seconds / 1e9:,.0f}", per_cent(flop / seconds / self.peak)]


def per_cent(share: float) -> str:
    return f"{100 * share:.1f} %"


def fill_new_memory(on: bool) -> None:
    """Choose whether new memory is filled, which deterministic PyTorch does and stages.train switches off."""
    torch.utils.deterministic.fill_uninitialized_memory = on  # type: ignore[attr-defined]


OPTIONS = (
    click.Option(["--recipe"], type=Name(), help="A name under `recipes:` in params.yaml, instead of all."),
    rounds_option(5),
    click.Option(["--side"], type=Number(), default=4096, help="Of the matrices; a large GPU needs 8192."),
    click.Option(["--compile"], is_flag=True, help="Also torch.compile, which takes minutes."),
)


def main(recipe: str | None, rounds: int, side: int, compile: bool) -> None:
    params = config.load()
    names = [recipe] if recipe else list(params.recipes)
    cli.known(names, params.recipes, "recipe")
    torch.set_flush_denormal(True)  # first: threads that run already would not take it over
    peaks = measure(rounds, side)
    print(header())
    print(f"Best of {rounds}\n\n{peaks_table(peaks, side)}", flush=True)

    hardware = autotune.choose(replace(params.machine, compile=False))
    set_up(hardware, 0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        for name in names:
            roofline = Roofline(params, name, hardware, peaks.product[hardware.precision], rounds)
            for text in roofline.tables(Path(folder), compile):
                print(f"\n{text}", flush=True)


if __name__ == "__main__":
    cli.script(main, *OPTIONS, example="--recipe fast")
