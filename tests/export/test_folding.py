"""A folded network computes what the network does, with no batch normalisation left."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from pipeline.export.folding import Signs, folded
from pipeline.training.model import Block, FerNet, Pool
from tests.models import scrambled

pytestmark = pytest.mark.usefixtures("one_thread")


def network(pool: Pool = "max") -> FerNet:
    torch.manual_seed(0)
    made = scrambled(FerNet((6, 8, 10), 7, mean=120.0, std=60.0, pool=pool)).train()
    for _ in range(3):
        made(torch.randint(256, (9, 1, 48, 48)).float())
    return made.eval()


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("size", [48, 40])
def test_the_outputs_are_the_same(pool: Pool, size: int) -> None:
    """In double precision, where rounding hides nothing; a third of the scales are negative."""
    made = network(pool).double()
    images = torch.randint(256, (5, 1, size, size), generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        torch.testing.assert_close(folded(made)(images), made(images), rtol=1e-10, atol=1e-10)


def test_no_normalisation_is_left_and_the_network_is_as_before() -> None:
    made = network()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    result = folded(made)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


def test_signs_stay_only_where_a_scale_is_negative() -> None:
    made = network()
    first, second = (cast(Block, block).norm1.weight for block in made.blocks)
    with torch.no_grad():
        first.abs_()
        second[0] = -1.0
    found = [isinstance(block.norm1, Signs) for block in folded(made).blocks]
    assert found == [False, True]
