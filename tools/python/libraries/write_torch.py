#!/usr/bin/env python3
"""What torch writes from 1, 2 and 4 ranks: distributed checkpoints, and files of each rank as verl saves them.

usage: write_torch.py OUTPUT
"""
import sys
from pathlib import Path

import torch.distributed as dist

import torch_dcp
import torch_verl
from ranks import as_ranks


def ranks(output):
    dist.init_process_group("gloo")
    for module in (torch_dcp, torch_verl):
        module.write(output)


if __name__ == "__main__":
    for count in (1, 2, 4):
        as_ranks(count, ranks, Path(sys.argv[1]))
