"""Several processes against one: what they compute together is what one computes from the whole batch.

The cases below run twice, in this process as a group of one and in two processes that `torchrun` starts:
`python -m tests.training.test_distributed FOLDER` there computes all of them and keeps what each process got. With
`one` it computes one training, which two agents of `torchrun` share as on two nodes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.distributed import Group, SyncBatchNorm, group, require_equal_shares
from pipeline.training.hardware import Hardware
from pipeline.training.images import BatchLabels, Images
from pipeline.training.loop import PLAIN, Epoch, Trainer, train, validate
from pipeline.training.losses import LOSSES, CrossEntropy, LogitLoss, Loss
from pipeline.training.method import Method
from pipeline.training.model import FerNet
from pipeline.training.recipe import Augment, Recipe
from tests.clone import ROOT, Clone
from tests.factories import METHODS, loss_of, with_neighbours
from tests.servers import free_port

# The cases are computed once, for all of them.
pytestmark = [pytest.mark.medium, pytest.mark.xdist_group("distributed")]

PROCESSES = 2
TIMEOUT = 900
"""Seconds for the two processes: many times what they take, so that only a hang fails."""

RECIPE = Recipe(
    widths=(4, 8), epochs=4, batch_size=16, sizes=(12, 16), momentum=0.9, weight_decay=1e-3, warmup=0.2,
    ema_decay=0.9, self_distillation=0.5,
    augment=Augment(rotation=5, zoom=0.05, shift=0.05, brightness=5, contrast=0.1, cutout=0.2),
)  # fmt: skip
CPU = Hardware("cpu", "fp32")
CLASSES, DIMENSIONS = 7, 5
STEPS = 5
RATES = {
    "cross_entropy": 0.05, "cosine": 0.5, "absolute_cosine": 0.5, "scaled_cosine": 0.05,
    "cosine_and_cross_entropy": 0.5, "hinge_rank": 0.1, "soft_labels": 0.05,
    "relative_uncertainty": 0.05, "self_cure": 0.05,
    "original_first": 0.02, "original_second": 0.5,
}  # fmt: skip
"""By loss, large enough that five steps change the network."""

Result = dict[str, Any]


def images(count: int, seed: int) -> Images:
    """Noise that is brighter above or below, by how much depending on the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    slope = torch.linspace(-60, 60, 16) * (labels[:, None] - 3) / 3
    pixels = 120 + slope[:, :, None] + 30 * torch.randn(count, 16, 16, generator=generator)
    return Images(pixels.clamp(0, 255).to(torch.uint8)[:, None], labels)


TRAINING, VALIDATION = images(70, 0), images(25, 1)
"""An odd number of images to validate on, which two processes cannot share equally."""


def fresh(seed: int = 0, output_dim: int = CLASSES) -> FerNet:
    torch.manual_seed(seed)
    return FerNet(RECIPE.widths, output_dim, mean=120.0, std=40.0)


def make(name: str) -> Loss:
    """A loss; the vectors of the classes have another number of dimensions than there are classes."""
    vectors = torch.randn(CLASSES, DIMENSIONS, generator=torch.Generator().manual_seed(7))
    return loss_of(name, nn.functional.normalize(vectors, dim=1))


# The cases: each computes in a group of any size.


def normalisation(group: Group, offset: float, dtype: torch.dtype) -> Result:
    """Three batches through one normalisation in training, one in evaluation: everything it computes."""
    generator = torch.Generator().manual_seed(0)
    batches = offset + 2 * torch.randn(4, 12, 3, 5, 6, generator=generator)
    weights = torch.randn(12, 3, 5, 6, generator=generator)
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    model = group.wrap(nn.Sequential(norm))
    result: Result = {"kind": type(norm).__name__}
    for step, batch in enumerate(batches[:3]):
        share = group.shard(batch).to(dtype).requires_grad_()
        output = model(share)
        assert output.dtype == dtype
        norm.zero_grad()
        (group.world_size * (group.all_gather(output).float() * weights).sum()).backward()
        assert share.grad is not None
        result[f"output {step}"] = group.all_gather(output.detach()).float()
        result[f"images' gradient {step}"] = group.all_gather(share.grad / group.world_size).float()
        for name, parameter in norm.named_parameters():
            assert parameter.grad is not None
            result[f"{name}'s gradient {step}"] = parameter.grad.clone()
        result |= {f"{name} {step}": tensor.clone() for name, tensor in norm.named_buffers()}
    norm.eval()
    result["evaluated"] = group.all_gather(model(group.shard(batches[3]).to(dtype)).detach()).float()
    return result


def stepped(group: Group, name: str, turned: int = 0, hardware: Hardware = CPU) -> Result:
    """The network and its average after some steps with that loss; each batch turned by so many images."""
    loss = make(name)
    trainer = Trainer(fresh(output_dim=loss.output_dim), loss, RECIPE, hardware, group)
    trainer.network.train()
    values = []
    for step in range(STEPS):
        rows = torch.randperm(70, generator=torch.Generator().manual_seed(step))[:16].roll(turned)
        mine = TRAINING.pixels[group.shard(rows)].float()
        value, scores = trainer.step(
            mine, BatchLabels(TRAINING.labels[rows]), torch.tensor(RATES[name]), torch.tensor(0.5)
        )
        assert scores.shape == (16, CLASSES)
        values.append(float(value))
    return {"losses": values, **trainer.network.state_dict(), **named("average", trainer.average)}


def compiled(group: Group) -> Result:
    """The same with a network that torch.compile takes apart, but without minutes of making code of it."""
    with mock.patch.object(torch, "compile", partial(torch.compile, backend="aot_eager")):
        return stepped(group, "cross_entropy", hardware=replace(CPU, compile=True))


def named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix} {name}": tensor.clone() for name, tensor in tensors.items()}


class BreakingError(Exception):
    pass


class Breaking(LogitLoss):
    """Cross-entropy that breaks off in one of its calls, in all processes at once."""

    probabilistic: ClassVar[bool] = True

    def __init__(self, call: int) -> None:
        self.targets, self.left = torch.eye(CLASSES), call
        self.inner = CrossEntropy(self.targets, label_smoothing=0.1)

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise BreakingError
        return self.inner(output, labels)

    def under_each(self, output: Tensor) -> Tensor:
        return self.inner.under_each(output)


def trained(
    group: Group, path: Path, seed: int = 0, stop: int = 0, recipe: Recipe = RECIPE, rate: float = 0.2,
    method: Method = PLAIN,
) -> Result:  # fmt: skip
    """A whole training from a network of that seed, or, if it breaks off, why."""
    told: list[int] = []
    network = fresh(seed)

    def tell(row: Epoch) -> None:
        told.append(row.epoch)

    try:
        best, progress = train(
            network, Breaking(stop), with_neighbours(TRAINING), VALIDATION, recipe, rate, 0, CPU, Checkpoint(path),
            tell, group, method,
        )  # fmt: skip
    except (BreakingError, UserError) as error:
        return {"error": str(error), "told": told}
    return {
        "history": [asdict(row) for row in progress.history],
        "best_epoch": progress.best_epoch,
        "seconds": progress.seconds,
        "told": told,
        **named("best", best),
        **named("network", network.state_dict()),
    }


def validated(group: Group, count: int) -> list[float]:
    part = Images(VALIDATION.pixels[:count], VALIDATION.labels[:count])
    return list(validate(fresh(), make("cross_entropy"), part, CPU, group))


def joined(group: Group) -> Result:
    """What happens to rows that are shared out and joined again, and to the gradient of a sum over them."""
    whole, weights = torch.arange(12.0).reshape(6, 2), torch.arange(12.0).reshape(6, 2).square()
    share = group.shard(whole).requires_grad_()
    again = group.all_gather(share)
    (again * weights).sum().backward()
    return {"share": share.detach(), "joined": again.detach(), "gradient": share.grad}


def agreed(group: Group) -> Result:
    asked: list[int] = []

    def choose() -> Hardware:
        asked.append(group.rank)
        return Hardware("cpu", "bf16", "contiguous", 3 + group.rank)

    return {"choice": str(group.broadcast(choose)), "asked": asked}


NORMALISATIONS: dict[str, tuple[float, torch.dtype]] = {
    "centred": (0.0, torch.float32),
    "far from zero": (20.0, torch.float32),
    "bf16": (0.0, torch.bfloat16),
}


def everything(group: Group, folder: Path) -> Result:
    """All cases. The processes share one folder; what only one may write is looked for there."""
    torch.set_num_threads(1)
    broken = folder / "broken" / "state.safetensors"
    return {
        "place": [group.rank, group.world_size, group.is_main],
        "agreed": agreed(group),
        "joined": joined(group),
        "normalisation": {name: normalisation(group, *case) for name, case in NORMALISATIONS.items()},
        "stepped": {name: stepped(group, name) for name in LOSSES},
        "compiled": compiled(group),
        "validated": {count: validated(group, count) for count in (1, 2, 25)},
        "whole": trained(group, folder / f"whole-{group.rank}" / "state.safetensors"),
        "broken": trained(group, broken, stop=10),
        # Weights that are not in the checkpoint would show: this network starts elsewhere.
        "resumed": trained(group, broken, seed=5),
        "odd": trained(group, folder / "odd.safetensors", recipe=replace(RECIPE, batch_size=15)),
        "methods": {
            name: trained(group, folder / f"{name}.safetensors", method=method, recipe=replace(RECIPE, epochs=2))
            for name, method in METHODS.items()
        },
        "too fast": trained(group, folder / "fast.safetensors", rate=1e30),
    }


def one_training(group: Group, folder: Path) -> Result:
    """The place of this process and a whole training."""
    torch.set_num_threads(1)
    return {
        "place": [group.rank, group.world_size, group.is_main],
        "whole": trained(group, folder / f"whole-{group.rank}" / "state.safetensors"),
    }


def main(folder: Path, cases: Callable[[Group, Path], Result]) -> None:
    with group() as mine:
        result = cases(mine, folder)
        mine.barrier()
        torch.save(result, folder / f"{mine.rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def said(folder: Path, warm_python: dict[str, str]) -> str:
    """What two processes, which compute all cases, have to say apart from their results."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    result = Clone(ROOT, warm=warm_python).run(*torchrun, "-m", "tests.training.test_distributed", str(folder))
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def both(said: str, folder: Path) -> list[Result]:
    """What each of them computed."""
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """What this process computes on its own."""
    threads = torch.get_num_threads()
    yield everything(Group(), tmp_path_factory.mktemp("alone"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, warm_python: dict[str, str]) -> list[Result]:
    """What each of two nodes computed: two agents, each at an address of its own, with a process each."""
    folder = tmp_path_factory.mktemp("nodes")
    # macOS has one address on its loopback.
    addresses = ("127.0.0.1", "127.0.0.2" if sys.platform == "linux" else "127.0.0.1")
    meeting = [f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-backend=c10d", "--rdzv-id=test"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *meeting]
    here = Clone(ROOT, warm=warm_python)
    agents = [
        subprocess.Popen(
            [*torchrun, f"--local-addr={address}", "-m", "tests.training.test_distributed", str(folder), "one"],
            cwd=ROOT, env=here.warmed(here.env()),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for address in addresses
    ]  # fmt: skip
    for agent in agents:
        said, _ = agent.communicate(timeout=TIMEOUT)
        assert agent.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(found: Result, expected: Result, rtol: float, atol: float) -> None:
    """Equal keys, and numbers that differ by rounding."""
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=rtol, atol=atol, msg=partial("{}: {}".format, name)
        )


def assert_equal(first: Result, second: Result) -> None:
    """Equal bit for bit."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]) if isinstance(value, Tensor) else value == second[name], name


def without(result: Result, *names: str) -> Result:
    return {name: value for name, value in result.items() if name not in names}


# A process on its own.


def test_a_process_that_torchrun_did_not_start_is_a_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with group() as mine:
        assert mine == Group(rank=0, world_size=1)
        assert mine.is_main
        assert not dist.is_initialized()


def test_a_group_of_one_changes_nothing() -> None:
    alone, rows, network = Group(), torch.arange(6.0).requires_grad_(), fresh()
    kinds = [type(module) for module in network.modules()]
    assert torch.equal(alone.shard(rows), rows)
    assert alone.all_gather(rows) is rows
    assert alone.wrap(network) is network
    assert [type(module) for module in network.modules()] == kinds
    assert alone.broadcast(lambda: network) is network
    alone.barrier()  # returns


@pytest.mark.parametrize(("batch", "size"), [(64, 1), (63, 1), (64, 2), (63, 3), (2, 2)])
def test_equal_shares_are_accepted(batch: int, size: int) -> None:
    require_equal_shares(batch, size)


@pytest.mark.parametrize(("batch", "size"), [(63, 2), (64, 3), (1, 2)])
def test_unequal_shares_are_refused(batch: int, size: int) -> None:
    with pytest.raises(UserError) as error:
        require_equal_shares(batch, size)
    assert str(error.value) == refusal(batch, size)


def refusal(batch: int, size: int) -> str:
    return (
        f"{size} processes cannot share batches of {batch} images equally: change recipes.<name>.batch_size "
        "or torchrun's --nproc-per-node."
    )


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_shares_are_equal_parts_in_order(size: int) -> None:
    rows = torch.arange(12).reshape(6, 2)
    shares = [Group(rank, size).shard(rows) for rank in range(size)]
    assert {len(share) for share in shares} == {6 // size}
    assert torch.equal(torch.cat(shares), rows)


# Two processes.


def test_each_process_knows_its_place(both: list[Result]) -> None:
    assert [result["place"] for result in both] == [[0, 2, True], [1, 2, False]]


def test_two_processes_start_without_warnings(said: str) -> None:
    assert "Warning" not in said


def test_what_the_first_process_chooses_holds_for_both(both: list[Result]) -> None:
    assert [result["agreed"] for result in both] == [
        {"choice": "cpu, bf16, contiguous, 3 threads", "asked": asked} for asked in ([0], [])
    ]


def test_joining_gives_the_whole_to_both_and_the_gradient_to_the_part(both: list[Result]) -> None:
    whole = torch.arange(12.0).reshape(6, 2)
    for result, part in zip(both, (slice(0, 3), slice(3, 6)), strict=True):
        assert torch.equal(result["joined"]["share"], whole[part])
        assert torch.equal(result["joined"]["joined"], whole)
        assert torch.equal(result["joined"]["gradient"], whole.square()[part])


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_global_normalisation_is_pytorchs_on_the_whole_batch(both: list[Result], alone: Result, name: str) -> None:
    """Output, gradients of images, weight and bias, and running statistics, over several batches."""
    expected = alone["normalisation"][name]
    assert expected["kind"] == nn.BatchNorm2d.__name__
    tolerance = {"centred": 1e-5, "far from zero": 5e-4, "bf16": 2e-2}[name]
    for result in both:
        found = result["normalisation"][name]
        assert found["kind"] == SyncBatchNorm.__name__
        assert_close(without(found, "kind"), without(expected, "kind"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_steps_of_two_processes_are_those_of_one(both: list[Result], alone: Result, name: str) -> None:
    assert_equal(both[0]["stepped"][name], both[1]["stepped"][name])
    assert_close(both[0]["stepped"][name], alone["stepped"][name], rtol=1e-4, atol=1e-5)


def test_compiled_steps_of_two_processes_are_those_of_one(both: list[Result], alone: Result) -> None:
    """Sums over the processes must be there in a compiled backward pass too."""
    assert_equal(both[0]["compiled"], both[1]["compiled"])
    assert_close(both[0]["compiled"], alone["stepped"]["cross_entropy"], rtol=1e-4, atol=1e-5)
    assert_close(alone["compiled"], alone["stepped"]["cross_entropy"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["original_first", "original_second"])
def test_the_originals_would_show_a_batch_in_another_order(alone: Result, name: str) -> None:
    """They leave the last two images of a batch out, so equal steps mean that the order is kept."""
    turned, straight = stepped(Group(), name, turned=8), alone["stepped"][name]
    with pytest.raises(AssertionError):
        assert_close(turned, straight, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 25])
def test_two_processes_validate_any_number_of_images(both: list[Result], alone: Result, count: int) -> None:
    assert both[0]["validated"][count] == both[1]["validated"][count]
    assert both[0]["validated"][count] == pytest.approx(alone["validated"][count], rel=1e-5)


def test_a_training_by_two_processes_is_that_by_one(both: list[Result], alone: Result) -> None:
    ours, theirs = both[0]["whole"], alone["whole"]
    for first, second in zip(ours["history"], theirs["history"], strict=True):
        assert first == pytest.approx(second, rel=1e-3)
    names = ("history", "seconds", "told")
    assert_close(without(ours, *names), without(theirs, *names), rtol=1e-3, atol=1e-4)
    assert theirs["best_epoch"] > 0  # something was learned, so later weights count


def test_a_training_by_two_nodes_is_that_by_one_process(nodes: list[Result], alone: Result) -> None:
    """To the tolerance that docs/reproducibility.md states; and to the last bit between the nodes."""
    assert [result["place"] for result in nodes] == [[0, 2, True], [1, 2, False]]
    ours, theirs = nodes[0]["whole"], alone["whole"]
    for first, second in zip(ours["history"], theirs["history"], strict=True):
        assert first == pytest.approx(second, rel=1e-3)
    names = ("history", "seconds", "told")
    assert_close(without(ours, *names), without(theirs, *names), rtol=1e-3, atol=1e-4)
    assert_equal(*(without(result["whole"], "seconds", "told") for result in nodes))
    assert [result["whole"]["told"] for result in nodes] == [[0, 1, 2, 3], []]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_in_two_processes_is_that_in_one(both: list[Result], alone: Result, name: str) -> None:
    found, expected = both[0]["methods"][name], alone["methods"][name]
    for mine, theirs in zip(found["history"], expected["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3, abs=2e-3)
    assert_close(
        {key: value for key, value in found.items() if key.startswith("network")},
        {key: value for key, value in expected.items() if key.startswith("network")},
        rtol=2e-2, atol=2e-3,
    )  # fmt: skip


def test_both_processes_end_with_equal_weights_and_histories(both: list[Result]) -> None:
    first, second = (without(result["whole"], "seconds", "told") for result in both)
    assert_equal(first, second)


def test_only_the_first_process_writes_and_tells(both: list[Result], folder: Path) -> None:
    assert [result["whole"]["told"] for result in both] == [[0, 1, 2, 3], []]
    assert (folder / "whole-0" / "state.safetensors").exists()
    assert not (folder / "whole-1").exists()


def test_two_processes_resume_exactly(both: list[Result]) -> None:
    """Broken off in the third epoch, of four batches each."""
    assert [result["broken"]["told"] for result in both] == [[0, 1], []]
    assert [result["resumed"]["told"] for result in both] == [[2, 3], []]
    for result in both:
        assert_equal(without(result["resumed"], "seconds", "told"), without(result["whole"], "seconds", "told"))


def test_batches_that_two_processes_cannot_share_are_refused_in_both(both: list[Result], folder: Path) -> None:
    assert [result["odd"] for result in both] == [{"error": refusal(15, 2), "told": []}] * 2
    assert not (folder / "odd.safetensors").exists()


def test_a_loss_that_is_no_number_stops_both(both: list[Result]) -> None:
    first, second = (result["too fast"]["error"] for result in both)
    assert first == second
    assert first.startswith("The loss is no longer a number since batch ")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="2 processes, but this machine has 1 GPU"), group():
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), one_training if "one" in sys.argv[2:] else everything)
