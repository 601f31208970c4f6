import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from workbench.deployment.batching import BatchQueue, Closed, QueueFull, Request
from workbench.errors import WorkbenchError


def request(images):
    return Request(np.zeros((images, 2, 2, 3), np.float32))


def test_requests_that_fill_a_batch_are_handed_out_together_without_waiting():
    queue, asked = BatchQueue(batch=6, delay_s=3600, capacity=100), [request(n) for n in (1, 2, 3)]
    for each in asked:
        queue.put(each)
    assert queue.take() == asked
    assert queue.images == 0


def test_a_request_waits_for_others_only_as_long_as_it_was_told():
    queue, lone = BatchQueue(batch=6, delay_s=0.2, capacity=100), request(1)
    queue.put(lone)
    assert queue.take() == [lone]
    assert time.monotonic() - lone.since >= 0.2


def test_a_request_is_not_split_and_the_order_is_kept():
    queue, asked = BatchQueue(batch=4, delay_s=0, capacity=100), [request(n) for n in (3, 2, 2, 4, 1)]
    for each in asked:
        queue.put(each)
    assert [queue.take() for _ in range(4)] == [asked[:1], asked[1:3], asked[3:4], asked[4:]]


def test_a_full_queue_refuses_what_does_not_fit_and_says_what_to_do():
    queue = BatchQueue(batch=4, delay_s=3600, capacity=10)
    for images in (4, 4):
        queue.put(request(images))
    with pytest.raises(QueueFull, match="8 images wait already, and it keeps 10 at most"):
        queue.put(request(3))
    queue.put(request(2))
    assert queue.images == 10
    queue.take()
    queue.put(request(4))


def test_a_closed_queue_hands_out_what_waits_and_then_nothing():
    queue, asked = BatchQueue(batch=4, delay_s=3600, capacity=10), request(1)
    queue.put(asked)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(lambda: [queue.take(), queue.take()])
        queue.close()
        assert taken.result(timeout=60) == [[asked], []]
    with pytest.raises(Closed):
        queue.put(request(1))


def test_several_threads_get_every_request_exactly_once():
    queue, asked = BatchQueue(batch=8, delay_s=0.001, capacity=10**6), [request(1 + i % 5) for i in range(2000)]
    taken, lock = [], threading.Lock()

    def work():
        while batch := queue.take():
            assert sum(len(each.images) for each in batch) <= 8
            with lock:
                taken.extend(batch)

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        for part in [pool.submit(lambda n=n: [queue.put(each) for each in asked[n::4]]) for n in range(4)]:
            part.result(timeout=60)
        queue.close()
        for worker in workers:
            worker.result(timeout=60)
    assert len(taken) == 2000
    assert {id(each) for each in taken} == {id(each) for each in asked}


def test_the_refusals_are_errors_with_remedies():
    assert issubclass(QueueFull, WorkbenchError)
    assert issubclass(Closed, WorkbenchError)
