"""Runs of several processes that stand for ranks, as `torchrun` starts them."""
import atexit
import os
import subprocess
import sys


def torchrun(count, script, *arguments):
    """Runs a script in so many processes, as people do."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), script]
    # Whatever the machine's name resolves to, its processes find one another.
    settings = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run([*command, *map(str, arguments)], check=True, env=settings)


def leave():
    """Ends a rank once all have come here, without the last destructors: threads that torch leaves behind sometimes abort in them."""
    import torch.distributed as dist
    dist.barrier()
    dist.destroy_process_group()
    # Ends its own processes, too.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
