"""A small model that is trained over some mesh of ranks with FSDP2, for what is written of it."""
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(6, 10, bias=False)
        self.down = torch.nn.Linear(10, 6, bias=False)
        self.norm = torch.nn.LayerNorm(6)

    def forward(self, x):
        return x + self.norm(self.down(self.up(x.to(self.up.weight.dtype)).relu()))


class Model(torch.nn.Module):
    """Rows that neither 2 nor 4 ranks divide, fewer rows than ranks, a block in bfloat16, and buffers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed = torch.nn.Embedding(11, 6)
        self.layers = torch.nn.ModuleList([Block(), Block().bfloat16()])
        self.head = torch.nn.Linear(6, 3)
        self.register_buffer("rope", torch.arange(3.0) / 7)
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x).float()
        self.seen += 1
        return self.head(x)


def shard(model, mesh):
    if "tp" in mesh.mesh_dim_names:
        for layer in model.layers:
            parallelize_module(layer, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        mesh = mesh["dp"]
    for module in (*model.layers, model):
        fully_shard(module, mesh=mesh)


class Training:
    """A model sharded over some mesh, or whole where there is none, and its optimizer."""

    def __init__(self, mesh=None):
        self.model, self.step = Model(), 0
        if mesh is not None:
            shard(self.model, mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, foreach=False)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3)

    def train(self, steps=2):
        for _ in range(steps):
            self.step += 1
            self.model(torch.arange(11)).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.schedule.step()
