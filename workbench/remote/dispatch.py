"""Jobs on hosts: one at a time, or spread over a Dask cluster. A job that cannot be done gives a refusal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from ..errors import Cancelled, Refusal, WorkbenchError, refuse_unless
from ..progress import Progress
from ..workspace import Workspace
from .host import Host
from .job import EvaluationSet, Job, Report

#: What comes back: the report of a job, or why it could not be done.
Outcome = Report | Refusal

#: Seconds after which a job is given up when its host has left the cluster. A nanny restarts a worker in a few.
PATIENCE_S = 30.0
PAUSE_S = 0.1


def send(host: Host, job: Job, workspace: Workspace, evaluation: EvaluationSet, progress: Progress) -> Outcome:
    """Run a job on its host; an error of the workbench comes back as a refusal, but ``Cancelled`` is raised."""
    return _outcome(lambda: host.run_job(job, workspace, evaluation, progress))


def _outcome(work: Callable[[], Report]) -> Outcome:
    try:
        return work()
    except Cancelled:
        raise
    except WorkbenchError as error:
        return error.refusal


# ---- Dask --------------------------------------------------------------------------------------------------------


def spread(
    jobs: Sequence[tuple[Host, Job]], workspace: Workspace, evaluation: EvaluationSet, client, progress: Progress
) -> Iterator[tuple[int, Outcome]]:
    """Run jobs on a Dask cluster; the resources of a worker are the names of the hosts that it works for.

    A worker that was started with ``--resources "t4-box=1"`` takes the jobs of host ``t4-box``, one at a time. When
    a worker dies, another one with the same resource takes its job. When there is none in time, the job is refused.
    A cluster that never had a worker for a host is refused by ``check_workers``.

    Args:
        jobs: each with its host.
        workspace: where engines go; the workers must see its folder.
        evaluation: what the engines are evaluated on; sent to the cluster once.
        client: a ``distributed.Client``.
        progress: gets how many jobs are done.

    Yields:
        The number of each job in ``jobs`` and its outcome, in the order in which jobs end.
    """
    shared = client.scatter(evaluation, hash=False, broadcast=True)  # on every worker, as any of them may die
    futures = {_submit(host, job, workspace, shared, client): number for number, (host, job) in enumerate(jobs)}
    seen = dict.fromkeys(futures, time.monotonic())
    try:
        while futures:
            progress(f"{len(futures)} engines to go", len(jobs) - len(futures), len(jobs))
            present, now = _resources(client), time.monotonic()
            for future, number in list(futures.items()):
                host, _ = jobs[number]
                if host.name in present:
                    seen[future] = now
                if future.done():
                    del futures[future]
                    yield number, _outcome(lambda future=future: _result(future))
                elif now - seen[future] > PATIENCE_S:
                    del futures[future]
                    client.cancel([future])
                    yield number, _left_the_cluster(host)
            time.sleep(PAUSE_S)
    finally:
        client.cancel(list(futures))


def _submit(host: Host, job: Job, workspace: Workspace, shared, client):
    return client.submit(
        Host.run_job,
        host,
        job,
        str(workspace.path),
        shared,
        resources={host.name: 1},
        pure=False,
        key=f"{job.variant.recipe.label} on {host.name}-{time.monotonic_ns()}",
    )


def _left_the_cluster(host: Host) -> Refusal:
    return Refusal(
        f"every worker of host {host.name!r} has left the cluster",
        "start one again and run the study again; the rest is kept",
    )


def _result(future) -> Report:
    """The future's result. An error of Dask's own, such as for a worker that died several times, becomes ours."""
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
    """The names of the hosts that the cluster's workers work for now."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {name for worker in workers for name, amount in worker["resources"].items() if amount >= 1}


def check_workers(client, names: set[str]) -> None:
    """Refuse a cluster that has no worker for a host, before anything is sent to it.

    Raises:
        WorkbenchError: no worker has the resource of one of these hosts.
    """
    known = _resources(client)
    missing = ", ".join(sorted(names - known))
    refuse_unless(
        not missing,
        f"No worker of the cluster stands for {missing}",
        why=f"the resources of its workers are: {', '.join(sorted(known)) or 'none'}",
        remedy='start one for each with: dask worker SCHEDULER --nthreads 1 --resources "NAME=1"',
    )
