import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from silo.checkpoint import read_manifest
from training.errors import BadRecipe
from training.parallel import World


@pytest.fixture(scope="module")
def one_and_two(data, tmp_path_factory):
    """The same recipe trained by one process and by two."""
    folder = tmp_path_factory.mktemp("parallel")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    train = ["train", "smoke", "--data", str(data), "--device", "cpu", "--out"]
    one = [sys.executable, "-m", "silo", *train, str(folder / "one")]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two += ["-m", "silo", *train, str(folder / "two")]
    for command in (one, two):
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=110)
    return folder / "one", folder / "two"


def test_two_processes_train_what_one_does(one_and_two):
    one, two = (load_file(folder / "model.safetensors") for folder in one_and_two)
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=2e-3) for name in one)
    losses = [read_manifest(folder).losses for folder in one_and_two]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    processes = [read_manifest(folder).notes["processes"] for folder in one_and_two]
    assert processes == ["1", "2"]


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(BadRecipe, match="a multiple of the 3 processes; got 4"):
        World(0, 3).share(np.zeros((4, 5), np.int64))


def test_the_shares_of_all_processes_are_the_batch():
    batch = np.arange(12).reshape(6, 2)
    shares = [World(rank, 3).share(batch) for rank in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == batch.tolist()
