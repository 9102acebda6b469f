"""The pool of processes by itself."""

from __future__ import annotations

import os
import time

from bench import pool
from bench.pool import Outcome, Pool


def leave_soon() -> None:
    pool._IDLE = 0.3


def own_id(job: int) -> tuple[int, int]:
    return job, os.getpid()


def ended(workers: Pool[int]) -> Outcome[int]:
    deadline = time.monotonic() + 60
    while not (outcomes := workers.wait(0.2)):
        assert time.monotonic() < deadline
    return outcomes[0]


def test_a_process_that_has_left_as_it_had_nothing_to_do_is_given_no_job() -> None:
    workers: Pool[int] = Pool(own_id, 1, leave_soon, (), print)
    processes = set()
    for job in range(3):
        workers.submit(job)
        outcome = ended(workers)
        assert (outcome.reason, outcome.value[0]) == ("", job)
        processes.add(outcome.value[1])
        time.sleep(1)
    assert len(processes) == 3
    workers.close()
