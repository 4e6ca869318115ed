"""Train a network in one loop: batches, augmentation, one step, a moving average, a checkpoint."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import UserError
from pipeline.files import JsonDict
from pipeline.training.augment import DRAWS, augment, flips
from pipeline.training.checkpoint import Checkpoint, Groups
from pipeline.training.cuda_graph import CudaGraphStep
from pipeline.training.distillation import Teachers
from pipeline.training.distributed import Group, require_equal_shares
from pipeline.training.hardware import Hardware
from pipeline.training.images import BatchLabels, Images
from pipeline.training.losses import Loss
from pipeline.training.memory import Memory, SoftTargets, TemporalEnsemble, restore
from pipeline.training.method import Method
from pipeline.training.mix import Mixture, mixed_labels
from pipeline.training.model import FerNet
from pipeline.training.recipe import Augment, Recipe, learning_rate_at
from pipeline.training.saved_model import predict

PLAIN = Method()
"""Training without anything besides loss, targets and labels."""
AUGMENTATION = "augmentation"
"""The profiler's name for the time from the images in memory to a batch for the network."""
SINGLE = Group()
"""A process that trains on its own."""


class DivergenceError(UserError):
    """The loss of a training is no longer finite."""


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. It has no times: two runs of one seed write the same file."""

    epoch: int
    size: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass
class Progress:
    """The progress of a training: the epochs so far, the best of them on PublicTest, and the seconds of each.

    The seconds leave out saving and logging.
    """

    history: list[Epoch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1

    def summary(self, flop: Sequence[int], images: int, hardware: Hardware) -> JsonDict:
        """Summarise the training, in total and by epoch, from the FLOP of each epoch and the images in one."""
        seconds, epochs = sum(self.seconds), len(self.history)
        return {
            "training": {
                "seconds": round(seconds, 2),
                "epochs": epochs,
                "best_epoch": self.best_epoch,
                "flop": sum(flop),
                "images_per_second": round(epochs * images / seconds, 1),
                "precision": hardware.precision,
                "device": hardware.device,
            },
            "epoch_seconds": self.seconds,
            "epoch_flop": flop,
        }


@dataclass(frozen=True)
class EpochPlan:
    """One epoch of S steps: constants of the epoch and, as tensors on the device, everything that changes.

    size: the side of the images; weight: that of the network's own predictions; last_rate: the learning rate at the
    end. order: int64 [S, B], the places of each batch; labels: int64 [N], of each image; flip: bool [N] and draws:
    float32 [N, DRAWS], of each place; rates: float32 [S]; decays: float64 [S], of the moving average; losses: float32
    [S], written step by step; position: int64 [1], the next step. mixture and boxes: what a mix and a consistency have
    drawn for each place.
    """

    size: int
    weight: float
    last_rate: float
    order: Tensor
    labels: Tensor
    flip: Tensor
    draws: Tensor
    rates: Tensor
    decays: Tensor
    losses: Tensor
    position: Tensor
    mixture: Mixture | None = None
    boxes: Tensor | None = None

    @classmethod
    def of(
        cls, recipe: Recipe, epoch: int, training: Images, learning_rate: float, seed: int, device: str,
        method: Method = PLAIN,
    ) -> EpochPlan:  # fmt: skip
        """Plan an epoch for N images; an incomplete last batch is left out."""
        count = len(training.labels)
        batch = min(count, recipe.batch_size)
        batches = images_per_epoch(recipe, count) // batch
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        order = torch.randperm(count, generator=generator)[: batches * batch].view(batches, batch)
        draws = torch.rand(count, DRAWS, generator=generator)
        steps = range(epoch * batches, (epoch + 1) * batches)
        rates = [learning_rate_at(step, recipe.epochs * batches, learning_rate, recipe.warmup) for step in steps]
        # The average follows closely at first, then over the last 1 / (1 - decay) steps.
        decays = [min(recipe.ema_decay, (1 + step) / (10 + step)) for step in steps]
        size = recipe.size_in(epoch)
        mixture, boxes = method.draw(count, size, seed, epoch)
        return cls(
            size=size,
            weight=recipe.self_distillation * epoch / max(1, recipe.epochs - 1),
            last_rate=rates[-1],
            order=order.to(device),
            labels=training.labels_in(epoch, seed),
            flip=flips(count, epoch, torch.Generator().manual_seed(seed)).to(device),
            draws=draws.to(device),
            rates=torch.tensor(rates, device=device),
            decays=torch.tensor(decays, dtype=torch.float64, device=device),
            losses=torch.zeros(batches, device=device),
            position=torch.zeros(1, dtype=torch.int64, device=device),
            mixture=None if mixture is None else mixture.to(device),
            boxes=None if boxes is None else boxes.to(device),
        )

    def now(self, values: Tensor) -> Tensor:
        """Return the entry of `values` [S, ...] for the next step: [...]."""
        return values.index_select(0, self.position)[0]


class Trainer:
    """The state that a step changes: the network, its moving average, and the optimiser's momentum."""

    def __init__(
        self, network: FerNet, loss: Loss, recipe: Recipe, hardware: Hardware, group: Group = SINGLE,
        method: Method = PLAIN,
    ) -> None:  # fmt: skip
        network.to(hardware.device, memory_format=hardware.layout)  # type: ignore[call-overload]
        self.network, self.loss, self.recipe, self.hardware = network, loss, recipe, hardware
        self.group, self.method = group, method
        self.averaged = copy.deepcopy(network)
        self.average = self.averaged.state_dict()
        self.optimizer = torch.optim.SGD(
            decay_groups(network, recipe),
            momentum=recipe.momentum,
            nesterov=True,
            fused=True if hardware.device == "cuda" else None,  # it reads the learning rate on the GPU
        )
        model = group.wrap(method.views_of(network, len(loss.targets)))
        self.model = torch.compile(model) if hardware.compile else model

    def step(
        self,
        images: Tensor,
        labels: BatchLabels,
        learning_rate: Tensor,
        decay: Tensor,
        soft_targets: SoftTargets | None = None,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Learn from a batch: this process's share of the images, all of the labels. Nothing here waits for a GPU.

        learning_rate and decay, that of the moving average, are scalars on the device; boxes, those of this process's
        images, are for a consistency. Returns the batch's loss and its scores [B, K], both without gradient.
        """
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate
        with self.hardware.autocast():
            inputs = images.contiguous(memory_format=self.hardware.layout)
            output = self.model(inputs) if boxes is None else self.model(inputs, boxes)
        value, scores = self.method.objective(self.loss, self.group.all_gather(output), labels)
        if soft_targets is not None:
            value = soft_targets.mix_into(value, scores)
        self.optimizer.zero_grad(set_to_none=True)
        # Each process has the gradient of its share, and what is left in all of them is the mean: too small
        # by the number of processes.
        (self.group.world_size * value).backward()
        self.optimizer.step()
        update_ema(self.average, self.network, decay)
        return value.detach(), scores.detach()

    def teacher_targets(self, images: Tensor, teachers: Teachers) -> SoftTargets:
        """Return what the teachers say of the batch, of which `images` are this process's share."""
        found = teachers.of(images)
        return replace(found, probabilities=self.group.all_gather(found.probabilities))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the state by group and name, for a checkpoint."""
        return {"network": self.network.state_dict(), "average": self.average, "momentum": momentum(self.optimizer)}

    def restore(self, state: Groups) -> None:
        """Restore what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["average"])
        restore_momentum(self.optimizer, state["momentum"])


def train(
    network: FerNet,
    loss: Loss,
    training: Images,
    validation: Images,
    recipe: Recipe,
    learning_rate: float,
    seed: int,
    hardware: Hardware,
    checkpoint: Checkpoint | None,
    on_epoch: Callable[[Epoch], None],
    group: Group = SINGLE,
    method: Method = PLAIN,
    teachers: Teachers | None = None,
) -> tuple[dict[str, Tensor], Progress]:
    """Train `network` in place; return the averaged weights of the best epoch on PublicTest, and the history.

    Each epoch draws from a generator of its own, seeded by (seed, epoch), so that an interrupted run that resumes from
    its checkpoint ends exactly as an uninterrupted one. The processes of a group draw the same numbers. Raises
    DivergenceError if the loss stops being finite.
    """
    device = hardware.device
    training, validation = training.to(device), validation.to(device)
    trainer = Trainer(network, loss, recipe, hardware, group, method)
    ensemble = TemporalEnsemble(len(training.labels), len(loss.targets), device)
    memory = method.memory.make(training, len(loss.targets)) if method.memory else None
    progress, best = Progress(), dict[str, Tensor]()
    if checkpoint and (saved := checkpoint.load()):
        state, facts = saved
        trainer.restore(state)
        best, ensemble.mean = state["best"], state["ensemble"]["mean"].to(device)
        if memory:
            restore(memory, state["memory"])
        progress = Progress([Epoch(**row) for row in facts["history"]], facts["seconds"], facts["best_epoch"])

    count = len(training.labels)
    require_equal_shares(min(count, recipe.batch_size), group.world_size)
    replay = CudaGraphStep() if records_steps(hardware, group) else None
    for epoch in range(len(progress.history), recipe.epochs):
        start = time.perf_counter()
        seen = method.before_epoch(training, seed, epoch)
        plan = EpochPlan.of(recipe, epoch, seen, learning_rate, seed, device, method)
        if memory:
            memory.start_epoch(epoch, recipe.epochs)
        network.train()
        step = partial(train_step, trainer, ensemble, seen, plan, memory, teachers)
        take = replay.of(step) if replay else step
        for _ in range(len(plan.rates)):
            take()

        # Here, after all steps, is the first look at what a GPU has computed.
        val_loss, val_accuracy = validate(trainer.averaged, loss, validation, hardware, group)
        stop_if_not_finite([*plan.losses.tolist(), val_loss], epoch, learning_rate)
        train_loss = float(plan.losses.double().mean())
        row = Epoch(epoch, plan.size, plan.last_rate, train_loss, val_loss, val_accuracy)
        if val_accuracy > max((earlier.val_accuracy for earlier in progress.history), default=-1.0):
            best = {name: tensor.clone() for name, tensor in trainer.average.items()}
            progress.best_epoch = epoch
        progress.history.append(row)
        progress.seconds.append(round(time.perf_counter() - start, 3))
        if checkpoint and group.is_main:
            checkpoint.save(state_of(trainer, ensemble, best, memory), asdict(progress))
        if group.is_main:
            on_epoch(row)
    return best, progress


def images_per_epoch(recipe: Recipe, count: int) -> int:
    """Return how many of `count` images are in an epoch's batches: an incomplete last batch is left out."""
    batch = min(count, recipe.batch_size)
    return count // batch * batch


def train_step(
    trainer: Trainer,
    ensemble: TemporalEnsemble,
    training: Images,
    plan: EpochPlan,
    memory: Memory | None = None,
    teachers: Teachers | None = None,
) -> None:
    """Run the step at the plan's position."""
    recipe, method = trainer.recipe, trainer.method
    places = plan.now(plan.order)
    mine = trainer.group.shard(places)
    labels = training.batch(places, plan.labels)
    if memory:
        labels = memory.labels(places, labels)
    if method.mix is None or plan.mixture is None:
        images = augmented(training, mine, plan, method.augment(recipe))
    else:
        before = trainer.group.shard(places.roll(1))[:1]  # the partner of the first
        images = augmented(training, torch.cat([before, mine]), plan, method.augment(recipe))
        images = method.mix.images(images[1:], images[:-1], plan.mixture.of(mine))
        labels = mixed_labels(labels, plan.mixture.kept[places], len(trainer.loss.targets))
    soft_targets = ensemble.of(places, plan.weight) if teachers is None else trainer.teacher_targets(images, teachers)
    value, scores = trainer.step(
        images, labels, plan.now(plan.rates), plan.now(plan.decays), soft_targets,
        None if plan.boxes is None else plan.boxes[mine],
    )  # fmt: skip
    if recipe.self_distillation:
        ensemble.add(places, scores)
    if memory:
        memory.add(places, scores)
    plan.losses.index_copy_(0, plan.position, value[None])
    plan.position.add_(1)


def augmented(training: Images, places: Tensor, plan: EpochPlan, spec: Augment) -> Tensor:
    """Return the images in these B places augmented as planned: float32 [B, 1, size, size]."""
    with record_function(AUGMENTATION):
        pixels = training.pixels[training.images_in(places)].float()
        return augment(pixels, plan.flip[places], plan.size, spec, plan.draws[places])


def state_of(
    trainer: Trainer, ensemble: TemporalEnsemble, best: Mapping[str, Tensor], memory: Memory | None = None
) -> Groups:
    """Return the content of a checkpoint other than the progress."""
    state = {**trainer.state(), "best": best, "ensemble": {"mean": ensemble.mean}}
    return state | {"memory": memory.tensors} if memory else state


def records_steps(hardware: Hardware, group: Group) -> bool:
    """Return whether steps are recorded and replayed: on a GPU, which computes faster than Python starts kernels.

    Not with torch.compile, nor in a group, whose processes communicate within a step: both are untested.
    """
    return hardware.device == "cuda" and not hardware.compile and group.world_size == 1


def decay_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Return parameter groups: weight decay for convolutions and the head, none for normalisations and biases."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def momentum(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's only state, by the position of its parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {str(i): optimizer.state[p]["momentum_buffer"] for i, p in enumerate(parameters)}


def restore_momentum(optimizer: torch.optim.Optimizer, buffers: Mapping[str, Tensor]) -> None:
    """Restore what `momentum` returned."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, parameter in enumerate(parameters):
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffers[str(i)])


@torch.no_grad()
def update_ema(average: dict[str, Tensor], network: nn.Module, decay: Tensor) -> None:
    """Compute average <- decay * average + (1 - decay) * network, for weights and normalisation statistics alike."""
    current = network.state_dict()
    names = [name for name, tensor in average.items() if tensor.is_floating_point()]
    means = [average[name] for name in names]
    share = (1 - decay).float()
    torch._foreach_lerp_(means, [current[name] for name in names], [share.expand_as(mean) for mean in means])


def stop_if_not_finite(losses: Sequence[float], epoch: int, learning_rate: float) -> None:
    """Raise DivergenceError naming the first batch whose loss is not finite. The last checkpoint stays.

    losses: of every batch, before its step, then that on PublicTest, which shows the effect of the last step.
    """
    bad = next((batch for batch, value in enumerate(losses) if not math.isfinite(value)), None)
    if bad is not None:
        raise DivergenceError(
            f"The loss is no longer a number since batch {bad} of epoch {epoch}: try a learning rate "
            f"below {learning_rate:g} (models.<name>.learning_rate) or machine.precision: fp32."
        )


def validate(
    network: FerNet, loss: Loss, data: Images, hardware: Hardware, group: Group = SINGLE
) -> tuple[float, float]:
    """Return mean cross-entropy of the scores, comparable between losses, and accuracy."""
    count = len(data.labels)
    rows = torch.arange(count + -count % group.world_size) % count  # equal shares: some images come twice
    mine = data.pixels[group.shard(rows)] if group.world_size > 1 else data.pixels
    scores = loss.scores(group.all_gather(predict(network, mine, hardware))[:count])
    cross_entropy = nn.functional.cross_entropy(scores, data.labels)
    return float(cross_entropy), float((scores.argmax(1) == data.labels).float().mean())


def epoch_flop(
    network: FerNet, recipe: Recipe, images: int, method: Method = PLAIN, teachers: Sequence[FerNet] = ()
) -> list[int]:
    """Return the floating point operations of each epoch.

    A forward pass costs f; a step about 3 f for each view, and a forward pass of each teacher.
    """
    network = copy.deepcopy(network).eval()  # counting must not touch the normalisation statistics
    batch = 2

    @cache
    def forward(one: FerNet, size: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            one(torch.zeros(batch, 1, size, size, device=one.mean.device))
        return int(counter.get_total_flops()) // batch

    def per_image(size: int) -> int:
        own = 3 * sum(forward(network, side) for side in method.view_sizes(size))
        return own + sum(forward(teacher, size) for teacher in teachers)

    seen = images_per_epoch(recipe, images)
    return [per_image(recipe.size_in(epoch)) * seen for epoch in range(recipe.epochs)]
