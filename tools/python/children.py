"""Work in children that are forked: they have torch already, and to load it takes longer than most of what tests do with it."""
import datetime
import os
import traceback


def fork(work):
    """Does some work in a child that is forked, and returns its process id. Its exit status is 0 where it went well."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child):
    """Waits for a child. Returns its exit status, or the negative number of the signal that it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ranks(count, folder, work):
    """The ranks of a process group do some work, each in a child. Returns their exit statuses."""
    # Each rank would load it with its first optimizer or sharded tensor.
    import torch._dynamo  # noqa: F401
    import torch.distributed as dist

    def rank(number):
        # Whatever the machine's name resolves to, its processes find one another.
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/group-of-{count}", rank=number, world_size=count,
            timeout=datetime.timedelta(minutes=2))
        work()
        dist.barrier()
        dist.destroy_process_group()

    return [ended(child) for child in [fork(lambda: rank(number)) for number in range(count)]]
