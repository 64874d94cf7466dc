#!/usr/bin/env python3
"""What torch writes from 1, 2 and 4 ranks: distributed checkpoints, and files of each rank as verl saves them.

usage: write_torch.py OUTPUT
"""
import os
import sys
from pathlib import Path

import torch.distributed as dist

import torch_dcp
import torch_verl
from ranks import leave, torchrun


def ranks(output):
    dist.init_process_group("gloo")
    for module in (torch_dcp, torch_verl):
        module.write(output)
    leave()


if __name__ == "__main__":
    if "RANK" in os.environ:
        ranks(Path(sys.argv[1]))
    else:
        for count in (1, 2, 4):
            torchrun(count, __file__, sys.argv[1])
