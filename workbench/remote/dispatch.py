"""Jobs of a study on other hosts: one after the other, or spread over a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..errors import Cancelled, Refusal, WorkbenchError, refuse_unless
from ..progress import Progress
from ..studies.runner import Job, Runner
from .host import Host
from .job import Report

#: Seconds after which a job whose host has left the cluster is given up; a nanny restarts a worker in a few.
PATIENCE_S = 30.0
PAUSE_S = 0.1


def send(runner: Runner, jobs: Iterable[Job]) -> None:
    """Run jobs on their hosts, one after the other."""
    for job in jobs:
        progress = runner.meter.step(job.label, 1 + len(runner.study.batches))
        if unfinished := runner.unfinished(job):
            _settle(runner, unfinished, lambda job=unfinished, told=progress: _run(runner, job, told))


def _run(runner: Runner, job: Job, progress: Progress) -> Report:
    return job.host.run(job.variant, runner.workspace, progress=progress, **_arguments(runner, job))


def _arguments(runner: Runner, job: Job) -> dict:
    study = runner.study
    return {
        "batches": runner.batches,
        "measure": [cell.batch for cell in job.cells],
        "images": study.images,
        "labels": study.labels,
        "reference": runner.reference.classes,
        "options": study.options.get(job.host.name),
        "seconds": study.seconds,
        "dataset": study.dataset,
    }


def _settle(runner: Runner, job: Job, result) -> None:
    """Write the ledger from what a job returns or raises."""
    try:
        report = result()
    except Cancelled:
        raise
    except WorkbenchError as error:
        runner.refused(job, error.refusal)
        return
    if report.refusal:
        runner.refused(job, report.refusal, report.engine)
    runner.arrived(job, report.engine, report.measurements)


# ---- Dask --------------------------------------------------------------------------------------------------------


def spread(runner: Runner, jobs: Iterable[Job], client) -> None:
    """Run jobs on a Dask cluster whose workers say by their resources which host they are.

    A worker started with ``--resources "t4-box=1"`` takes the jobs of host ``t4-box``, one at a time. When a worker
    dies, another one with the same resource takes its job; when none comes back in time, the job's cells become
    rows with that reason.

    Args:
        runner: the run that the jobs belong to.
        jobs: what to do.
        client: a ``distributed.Client``. Its workers must see the workspace's folder.

    Raises:
        WorkbenchError: no worker has a host's resource.
    """
    waiting = [one for job in jobs if (one := runner.unfinished(job))]
    _need_resources(client, {job.host.name for job in waiting})
    progress = runner.meter.step("cluster", sum(1 + len(runner.study.batches) for _ in waiting) or 1)
    futures = {_submit(runner, job, client): job for job in waiting}
    seen = dict.fromkeys(futures, time.monotonic())
    try:
        while futures:
            progress(f"{len(futures)} engines to go", len(waiting) - len(futures), len(waiting))
            _collect(runner, client, futures, seen)
            time.sleep(PAUSE_S)
    finally:
        client.cancel(list(futures))


def _submit(runner: Runner, job: Job, client):
    """Large arrays go to the cluster once, not with every job."""
    arguments = _arguments(runner, job)
    for name in ("images", "labels", "reference"):
        arguments[name] = client.scatter(arguments[name], hash=True)
    return client.submit(
        Host.run,
        job.host,
        job.variant,
        str(runner.workspace.path),
        **arguments,
        resources={job.host.name: 1},
        pure=False,
        key=f"{job.label}-{job.cells[0].key[:8]}-{time.monotonic_ns()}",
    )


def _collect(runner: Runner, client, futures: dict, seen: dict) -> None:
    """Settle what is done, and give up what has had no worker for too long."""
    present, now = _resources(client), time.monotonic()
    for future, job in list(futures.items()):
        if job.host.name in present:
            seen[future] = now
        if future.done():
            del futures[future]
            _settle(runner, job, lambda future=future: _result(future))
        elif now - seen[future] > PATIENCE_S:
            del futures[future]
            client.cancel([future])
            reason = f"every worker of host {job.host.name!r} has left the cluster"
            runner.refused(job, Refusal(reason, "start one again and run the study again; the rest is kept"))


def _result(future) -> Report:
    """The future's result; what Dask itself raises, such as after a worker that died again and again, is told."""
    try:
        return future.result()
    except WorkbenchError:
        raise
    except Exception as error:
        raise WorkbenchError(
            "The job failed on the cluster",
            why=f"{type(error).__name__}: {error}",
            remedy="look at the worker's log; run the study again for what is missing",
        ) from error


def _resources(client) -> set[str]:
    """The hosts that the cluster's workers stand for now."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {name for worker in workers for name, amount in worker["resources"].items() if amount >= 1}


def _need_resources(client, names: set[str]) -> None:
    known = _resources(client)
    missing = ", ".join(sorted(names - known))
    refuse_unless(
        not missing,
        f"No worker of the cluster stands for {missing}",
        why=f"the resources of its workers are: {', '.join(sorted(known)) or 'none'}",
        remedy='start one for each with: dask worker SCHEDULER --nthreads 1 --resources "NAME=1"',
    )
