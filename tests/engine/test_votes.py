"""Votes between ranks, one of which is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from mmkdlayer.engine.votes import Votes

TWO_RANKS = """
import multiprocessing, sys, time
import torch.distributed as dist
from mmkdlayer.engine.votes import Votes


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    votes = Votes(timeout=60)
    results = []
    for step in range(5):
        time.sleep(0.2 * rank)
        results.append(votes.cast(rank == 1 and step == 2))
    votes.close()
    assert votes.group is None
    assert results == [False, False, False, True, False], results
    dist.destroy_process_group()


if __name__ == '__main__':
    fork = multiprocessing.get_context('fork')
    ranks = [fork.Process(target=work, args=(rank, sys.argv[1])) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
"""


def test_all_ranks_learn_of_a_vote_in_the_next_call(
    run_script: Callable[..., str], tmp_path: Path
) -> None:
    run_script(TWO_RANKS, str(tmp_path))


def test_a_process_alone_decides_at_once() -> None:
    votes = Votes(timeout=60)
    assert [votes.cast(vote) for vote in (False, True, False)] == [False, True, False]
    votes.close()
