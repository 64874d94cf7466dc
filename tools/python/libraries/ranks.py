"""Processes that stand for ranks, as those of `torchrun` do. They are forks of one that has imported the libraries, since importing takes
longer than all else that they do.
"""
import atexit
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import traceback

import numpy as np
# The first optimizer of every rank would import it.
import torch._dynamo
import torch.distributed as dist

ADDRESS = "127.0.0.1"
# Of Linux's sys/prctl.h: the signal that a process gets when the one that started it ends.
PR_SET_PDEATHSIG = 1


def as_ranks(count, function, *arguments):
    """Runs a function in so many ranks. Where one fails, it has said why, and this process exits, and all others with it.

    Call it before all else that is more than an import: no threads live on in a fork, and what libraries keep for a process is not for two."""
    assert len(os.listdir("/proc/self/task")) == 1, "Threads don't live on in a fork. Those of OpenMP don't start with OMP_NUM_THREADS=1"
    # Looking through what is imported would be work for each of them, and copies for each.
    gc.freeze()
    # They have to know the port, and what serves it is a thread, which comes after the forks.
    with socket.create_server((ADDRESS, 0)) as server:
        _, port = server.getsockname()
        ranks = {forked(environment(rank, count, port), function, arguments): rank for rank in range(count)}
        store = dist.TCPStore(ADDRESS, port, is_master=True, wait_for_workers=False, master_listen_fd=server.detach())
    while ranks:
        process, status = os.wait()
        rank = ranks.pop(process)
        if status:
            # Before they complain of its end.
            for other in ranks:
                os.kill(other, signal.SIGKILL)
            sys.exit(f"rank {rank} of {count} ended with {os.waitstatus_to_exitcode(status)}")
    # Ends its thread.
    del store


def torchrun(count, script, *arguments):
    """Runs a script in so many processes, as people do. It calls `end` last."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), script]
    # Whatever the machine's name resolves to, its processes find one another.
    subprocess.run([*command, *map(str, arguments)], check=True, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"})


def environment(rank, count, port):
    """What torchrun sets, and the network interface, so that they find one another whatever the machine's name resolves to."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "ROLE_RANK": str(rank), "GROUP_RANK": "0", "ROLE_NAME": "default",
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "ROLE_WORLD_SIZE": str(count), "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": ADDRESS, "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "ranks", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0", "TORCHELASTIC_USE_AGENT_STORE": "True", "GLOO_SOCKET_IFNAME": "lo"}


def forked(settings, function, arguments):
    """The id of a new process that runs the function and ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        # One that waits for others would outlive them.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        assert os.getppid() == parent
        os.environ |= settings
        # Python's own random numbers are seeded by the fork, and torch's are those of every process.
        np.random.seed()
        function(*arguments)
        end()
    except BaseException:
        sys.stdout.flush()
        traceback.print_exc()
    finally:
        os._exit(1)


def end():
    """Ends a rank once all have come here, without the last destructors: threads that torch leaves behind sometimes abort in them."""
    dist.barrier()
    dist.destroy_process_group()
    # Ends its own processes, too.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
