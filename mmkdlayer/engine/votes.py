"""Lets all ranks come to the same decision in the same iteration."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import get_world_size


class Votes:
    """Lets all ranks learn of any rank's vote in the same iteration, without waiting for a GPU.

    Each call starts a sum over the ranks, on the CPU (gloo), and gives the result of the sum that the
    call before started; so a rank waits at most until the slowest one has come to the last call.

    Args:
        timeout: Seconds that a rank waits for another.
    """

    def __init__(self, timeout: float) -> None:
        self.group: Any = None
        self.votes = torch.tensor(0)
        self.work: Any = None  # the sum of these votes, once it has begun
        if get_world_size() > 1:
            self.group = torch.distributed.new_group(
                backend='gloo', timeout=timedelta(seconds=timeout)
            )

    def cast(self, vote: bool) -> bool:
        """Cast the vote of this rank; True once any rank had voted so in the call before."""
        if self.group is None:
            return vote
        decided = self._wait()
        self.votes = torch.tensor(int(vote))
        # Not through mmengine.dist, which has no asynchronous collectives.
        self.work = torch.distributed.all_reduce(self.votes, group=self.group, async_op=True)
        return decided

    def close(self) -> None:
        """End the last sum: nothing may run in the background when the process ends."""
        self._wait()
        if self.group is not None:
            torch.distributed.destroy_process_group(self.group)
            self.group = None

    def _wait(self) -> bool:
        if self.work is not None:
            self.work.wait()
        return bool(self.votes)
