"""Hosts, where jobs run: this process, another interpreter, a machine behind ssh, a container, a cluster's queue.

A workspace lists a user's hosts in ``hosts.toml``::

    [gpu-box]
    backend = "tensorrt"
    command = ["ssh", "gpu-box", "python3"]
    card = "T4"

    [container]
    backend = "tensorrt"
    command = ["docker", "run", "-i", "--rm", "--gpus", "all", "nvcr.io/nvidia/tensorrt:25.10-py3", "python3"]

The command starts a Python 3.10 or later that has NumPy and one runtime. Nothing of ours is installed there: the
part of this package that a job needs travels with it, see ``protocol.light_half``.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from ..backends import backend
from ..deployment.manifest import bundle_digest
from ..deployment.probe import Probe
from ..deployment.verify import read_bundle, untrusted_engine
from ..digests import file_digest
from ..errors import one_of, path_of, refuse_unless, shown
from ..files import read_toml, scratch_folder
from ..progress import Progress, silent
from ..records import Batches, Variant, decode, encode
from ..records.values import check_fields
from ..workspace import Workspace
from .answer import Answer
from .doctor import rows
from .job import EvaluationSet, Job, Report, run_job
from .protocol import files_of, files_of_bundle, keep_results, pack_job, read_report
from .transport import call
from .validation import Asked, validated_rows
from .worker import probed_bundle

#: Programs that give their arguments to a shell on the other machine, so that they must be quoted for it.
SHELLS = ("ssh", "mosh", "rsh", "plink")
#: No job takes a year.
LONGEST_S = 365 * 24 * 3600.0


@dataclass(frozen=True)
class Host:
    """A backend and, optionally, the command that starts Python somewhere else.

    Attributes:
        name: what tables call it.
        backend: the runtime that jobs use there.
        command: the words of a command that starts Python: ``["ssh", "gpu-box", "python3"]``. None runs ONNX
            Runtime in this process and a GPU runtime in a new one.
        card: the GPU to build for; None is the host's own.
        limit_s: seconds after which a job is given up.
        cache: the folder where the host keeps images and weights; None is ``~/.cache/vit-workbench/blobs`` there.
        shell: whether the command passes its words to a shell; None decides by the first word: ssh does.
        trusted: whether engines of TensorRT that it builds may be loaded here, although they can hold code.
    """

    name: str
    backend: str
    command: tuple[str, ...] | None = None
    card: str | None = None
    limit_s: float = 3600.0
    cache: str | None = None
    shell: bool | None = None
    trusted: bool = False

    def __post_init__(self):
        backend(self.backend)
        name = shown(self.name)
        refuse_unless(
            not isinstance(self.command, str),
            f"The command of host {name} must be a list of words",
            why=f"it is the single string {shown(self.command)}",
            remedy="write it as a list of words, such as ['ssh', 'gpu-box', 'python3']",
        )
        if self.command is not None:
            words = self.command
            refuse_unless(
                isinstance(words, list | tuple) and len(words) > 0 and all(isinstance(word, str) for word in words),
                f"The command of host {name} starts nothing",
                why=f"its words are {shown(words)}",
                remedy="name a program and its arguments as text, or leave command out to run here",
            )
        limit = self.limit_s
        refuse_unless(
            isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < LONGEST_S,
            f"The time limit of host {name} must be above zero",
            why=f"it is {shown(limit)}",
            remedy="give seconds as a number; 3600 is the default",
        )
        for setting in ("name", "card", "cache"):
            value = getattr(self, setting)
            refuse_unless(
                isinstance(value, str) or (value is None and setting != "name"),
                f"The {setting} of host {name} must be text",
                why=f"it is {shown(value)}",
                remedy='write it in quotes, such as card = "T4"',
            )
        one_of(f"setting shell of host {name}", self.shell, (None, True, False))
        check_fields(self)

    @property
    def interpreter(self) -> tuple[str, ...] | None:
        """The words of the command that starts Python, or None where jobs run in this process."""
        if self.command is None and backend(self.backend).isolated:
            return (sys.executable,)
        return self.command

    def run(
        self,
        variant: Variant,
        workspace,
        *,
        batches: Batches | None = None,
        measure: Iterable[int] = (),
        streams: Iterable[int] = (),
        layers: bool = False,
        images: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        reference: np.ndarray | None = None,
        options: Mapping | None = None,
        seconds: float = 2.0,
        dataset: str = "",
        progress: Progress = silent,
    ) -> Report:
        """Build an engine on the host and measure it there; engine, log and layers are put into the workspace.

        A host and this method can be pickled, so a Dask client can submit ``host.run``.

        Args:
            variant: what to build from.
            workspace: a ``Workspace`` or a folder's path; the engine is appended to its ledger.
            batches: the batch sizes that the engine must take.
            measure: batch sizes to measure at.
            streams: numbers of streams to measure throughput with.
            layers: whether to time every layer.
            images: float32 (N, H, W, 3), normalised; None times on noise.
            labels: the true classes, (N,).
            reference: the reference's classes, (N,), for ``agreement``.
            options: the backend's own options.
            seconds: how long each batch size is timed.
            dataset: what the images are called in tables.
            progress: see ``progress.Progress``; raising ``Cancelled`` ends the job on the host as well.

        Raises:
            WorkbenchError: the host cannot be reached, lacks something, refuses the variant or takes too long; or
                its worker crashed, was killed, or sent something other than results. The workspace then stays as it
                was.
        """
        job = Job(
            variant=variant,
            backend=self.backend,
            batches=batches or Batches(),
            measure=tuple(measure),
            streams=tuple(streams),
            layers=layers,
            card=self.card,
            options=dict(options or {}),
            seconds=seconds,
            dataset=dataset,
        )
        return self.run_job(job, workspace, EvaluationSet(images, labels, reference), progress)

    def run_job(
        self, job: Job, workspace, evaluation: EvaluationSet | None = None, progress: Progress = silent
    ) -> Report:
        """``run`` for a job that is described already; arguments and errors as for ``run``."""
        workspace, evaluation = Workspace.of(workspace), evaluation or EvaluationSet()
        if self.interpreter is None:
            return run_job(job, workspace, evaluation, progress)
        return self._run_in_worker(job, evaluation, workspace, progress)

    def _run_in_worker(
        self, job: Job, evaluation: EvaluationSet, workspace: Workspace, progress: Progress
    ) -> Report:
        with scratch_folder() as folder:
            written = encode(job, lambda path: f"variant/{PurePath(path).name}")
            request = {"job": written, "cache": self.cache}
            files = files_of(job, evaluation, folder)
            archive = self._call_with_files(request, files, folder, progress)
            asked = Asked(job, evaluation, self.name, elsewhere=self.command is not None, trusted=self.trusted)
            return keep_results(asked, archive, workspace, folder)

    def _call_with_files(
        self, request: Mapping, files: Mapping[str, Path], folder: Path, progress: Progress
    ) -> Path:
        """The tar of results of a request that needs files, of which only those travel that the host lacks."""
        digests = {name: file_digest(path) for name, path in files.items()}
        request = {**request, "files": digests}
        answer = self._call_worker(request, {}, folder, progress)
        if answer.missing:
            blobs = {digests[name]: path for name, path in files.items() if digests[name] in answer.missing}
            answer = self._call_worker(request, blobs, folder, progress)
        return answer.checked(self.name)

    def probe(self, bundle, *, trust=None, progress: Progress = silent) -> Probe:
        """Which models of a bundle run on the host, compute the golden logits there, and how fast.

        Args:
            bundle: what ``export_bundle`` wrote.
            trust: the ``bundle_digest``, or the file of the public key, that the sender gave by another way;
                without it a plan of TensorRT, which can hold code, is not loaded there either.
            progress: see ``progress.Progress``.

        Raises:
            WorkbenchError: the bundle is damaged or not trusted; the host cannot be reached, or lacks something.
        """
        return self._probed(bundle, None, trust, progress)

    def deploy(self, bundle, registry, *, trust=None, progress: Progress = silent) -> Probe:
        """Probe a bundle on the host, put it into a registry there, and make it current.

        ``workbench serve REGISTRY`` on the host then serves it. Arguments as for ``probe``, and:

        Args:
            bundle: what ``export_bundle`` wrote.
            registry: a folder of the host; it is made when it is missing.
            trust: as for ``probe``.
            progress: see ``progress.Progress``.

        Raises:
            WorkbenchError: as for ``probe``; or neither model answers there, and the registry stays as it was.
        """
        return self._probed(bundle, str(registry), trust, progress)

    def _probed(self, bundle, registry: str | None, trust, progress: Progress) -> Probe:
        folder = path_of("A bundle", bundle).expanduser().absolute()
        hands_on = not untrusted_engine(read_bundle(folder, trust))
        wanted = {"trust": bundle_digest(folder) if hands_on else None, "registry": registry}
        if self.interpreter is None:
            return probed_bundle(folder, wanted)
        with scratch_folder() as scratch:
            request = {"bundle": wanted, "cache": self.cache}
            archive = self._call_with_files(request, files_of_bundle(folder), scratch, progress)
            return decode(Probe, read_report(archive, scratch / "results"))

    def doctor(self) -> list[dict]:
        """What ``workbench doctor`` finds on the host: rows of ``doctor.rows``.

        Raises:
            WorkbenchError: the host cannot be reached, or has no Python 3.10 with NumPy.
        """
        if self.interpreter is None:
            return rows()
        with scratch_folder() as folder:
            archive = self._call_worker({"doctor": True}, {}, folder, silent).checked(self.name)
            return validated_rows(read_report(archive, folder / "results"))

    def _call_worker(self, request: Mapping, blobs: Mapping[str, Path], folder: Path, progress: Progress) -> Answer:
        archive, command = folder / "job.zip", self.interpreter or (sys.executable,)
        pack_job(archive, request, blobs)
        shell = self.shell if self.shell is not None else PurePath(command[0]).name in SHELLS
        return call(
            command,
            archive,
            folder / "results.tar",
            quote=shlex.quote if shell else str,
            limit_s=self.limit_s,
            name=self.name,
            progress=progress,
        )


def hosts(workspace) -> dict[str, Host]:
    """The hosts that the workspace's ``hosts.toml`` lists, by name; none where there is no such file.

    Raises:
        WorkbenchError: the file is no TOML, or a host in it has an unknown setting.
    """
    path = Workspace.of(workspace).path / "hosts.toml"
    if not path.exists():
        return {}
    tables = read_toml(path, "correct the line; see workbench.remote.host")
    return {name: _host(name, table, path) for name, table in tables.items()}


def host_named(workspace, name: str) -> Host:
    """A host of the workspace's ``hosts.toml``.

    Raises:
        WorkbenchError: no host has this name.
    """
    known = hosts(workspace)
    one_of("host", name, tuple(known))
    return known[name]


def doctor(host: str | None = None, workspace=".") -> list[dict]:
    """Rows ``item``, ``found``, ``status`` and ``remedy`` about this machine, or about a host of ``hosts.toml``.

    Raises:
        WorkbenchError: the host is not known, or cannot be reached.
    """
    if host is None:
        return rows()
    return host_named(workspace, host).doctor()


def _host(name: str, table, path: Path) -> Host:
    settings = [field.name for field in dataclasses.fields(Host) if field.name != "name"]
    refuse_unless(
        isinstance(table, dict) and "backend" in table,
        f"{path} does not describe the host {name!r}",
        why="every host is a table with a backend" + ("" if isinstance(table, dict) else ", and this is a value"),
        remedy=f'write [{name}] and below it backend = "tensorrt"',
    )
    for setting in table:
        one_of(f"setting of host {name!r}", setting, settings)
    return Host(name=name, **table)
