"""The layer and the token ids that the tests share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labkit.bench.examples import Example, example


@pytest.fixture(scope="session")
def layer() -> Example:
    return example()


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(3, 384, (12, 32), generator=torch.Generator().manual_seed(5))
