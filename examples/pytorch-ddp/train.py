"""Data-parallel training with PyTorch on CPUs: each task takes its share of every batch.

The model learns to add up what it is given. After each step all tasks have the same weights.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

WIDTH = 16
BATCH = 256


def main() -> None:
    arguments = parse_arguments()
    rank, world_size = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
    address = f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    try:
        model = train(rank, world_size, epochs=arguments.epochs)
        if rank == 0 and arguments.train_url is not None:
            arguments.train_url.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), arguments.train_url / "model.pt")
    finally:
        dist.destroy_process_group()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train_url", type=Path, help="a folder; what lies there is kept")
    return parser.parse_known_args()[0]


def train(rank: int, world_size: int, *, epochs: int) -> torch.nn.Module:
    torch.manual_seed(
        rank
    )  # other weights and other data in each task: DDP makes the weights equal
    model = torch.nn.Linear(WIDTH, 1)
    parallel = DistributedDataParallel(model)
    optimiser = torch.optim.SGD(parallel.parameters(), lr=0.05)
    for epoch in range(epochs):
        for _ in range(10):
            inputs = torch.randn(BATCH // world_size, WIDTH)
            loss = torch.nn.functional.mse_loss(parallel(inputs), inputs.sum(dim=1, keepdim=True))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        print(f"epoch {epoch} task {rank} of {world_size} loss {mean.item() / world_size:.6f}")
    sums = sum(parameter.detach().sum() for parameter in model.parameters())
    print(f"weights add up to {float(sums):.6f}")
    return model


if __name__ == "__main__":
    main()
