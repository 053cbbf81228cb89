"""CPU time of processes, in seconds."""

import pathlib
import resource


def of_process_and_thread(pid, thread):
    """Of all threads of a process so far, and of those with this name."""
    total = of_named = 0.0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        secs = int((task / "schedstat").read_text().split()[0]) / 1e9
        total += secs
        if (task / "comm").read_text().strip() == thread:
            of_named += secs
    return total, of_named


def of_ended_children():
    """Of the processes that this one has started and waited for."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
