"""The commands about shipping: checking a bundle, serving it, and choosing which version is current."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App, Parameter

from ..errors import WorkbenchError

bundle = App("bundle", help="Check a bundle, or hand it to Triton.", default_parameter=Parameter(negative=()))
deploy = App(
    "deploy", help="Choose which bundle of a registry is current.", default_parameter=Parameter(negative=())
)


@bundle.command
def verify(folder: Path, /, *, trust: str | None = None) -> int:
    """Check every file of a bundle and what its models compute; the exit code is 1 when something is wrong.

    Args:
        folder: the bundle.
        trust: the digest, or the file of the public key, that the sender gave you by another way.
    """
    from ..deployment.manifest import bundle_digest
    from ..deployment.verify import verify_bundle

    faults = verify_bundle(folder, trust)
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{folder} is sound; its digest is {bundle_digest(folder)}")
    return int(bool(faults))


@bundle.command
def build(folder: Path, out: Path, /, *, trust: str | None = None, card: str | None = None) -> None:
    """Build the engine of a bundle that holds a variant, on this machine, and write a bundle with the engine.

    Args:
        folder: the bundle.
        out: the new bundle.
        trust: the digest, or the file of the public key, that the sender gave you by another way.
        card: the GPU to build for; the one here when left out.
    """
    from ..deployment.bundle import build_bundle
    from .progress_line import ProgressLine

    with ProgressLine() as progress:
        made = build_bundle(folder, out, trust=trust, card=card, progress=progress)
    print(made)


@bundle.command
def sign(folder: Path, key: Path, /) -> None:
    """Sign a bundle, so that whoever has the public key can tell that it is yours.

    Args:
        folder: the bundle.
        key: a private Ed25519 key as `openssl genpkey -algorithm ed25519 -out FILE` makes it.
    """
    from ..deployment.trust import sign_bundle

    print(sign_bundle(folder, key))


@bundle.command
def triton(folder: Path, repository: Path, /, *, tensorrt: str | None = None, trust: str | None = None) -> None:
    """Add a bundle's engine to a model repository of NVIDIA's Triton Inference Server, as a new version.

    Args:
        folder: the bundle.
        repository: the folder that Triton is started with.
        tensorrt: the version of TensorRT in the Triton container, needed for a plan.
        trust: the digest, or the file of the public key, that the sender gave you by another way.
    """
    from ..deployment.triton import BUILD, export_triton

    version = export_triton(folder, repository, tensorrt=tensorrt, trust=trust)
    print(version)
    if (version / BUILD).is_file():
        print(f"Its plan is still to be built, in the Triton container: sh {version / BUILD}")


def serve(
    folder: Path,
    /,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    trust: str | None = None,
    streams: int = 1,
    batch: int | None = None,
    delay_ms: float = 2.0,
    queue: int = 1024,
    canary: str | None = None,
    share: float = 0.1,
    agreement: float = 0.95,
    latency_ms: float | None = None,
) -> None:
    """Serve a bundle, or the current one of a registry, over HTTP: Open Inference Protocol, health and metrics.

    Args:
        folder: the bundle or the registry.
        port: 0 takes any free one.
        host: the address to listen at; only this machine reaches the default.
        trust: the digest, or the file of the public key, that the sender gave you by another way.
        streams: calls of the engine that run at the same time.
        batch: images computed together; the batch that the engine is tuned for when left out.
        delay_ms: how long a request waits for others.
        queue: images that may wait; more are refused.
        canary: a version of the registry that gets a share of the requests, and is taken back over a limit.
        share: of the requests that the canary gets, 0 to 1.
        agreement: the least share of images that must get the same class from both versions.
        latency_ms: what 99 of 100 requests of the canary may take at most.
    """
    from ..deployment.canary import Limits, deploy_canary
    from ..deployment.registry import Registry
    from ..deployment.server import serve as serve_http
    from ..deployment.service import deploy as deploy_bundle

    settings: Any = {"streams": streams, "batch": batch, "delay_s": delay_ms / 1e3, "queue": queue}
    if canary is not None:
        limits = Limits(agreement, latency_ms and latency_ms / 1e3, share)
        service = deploy_canary(folder, canary, limits, trust=trust, **settings)
    else:
        home = Registry(folder).current_folder if Registry.is_at(folder) else folder
        service = deploy_bundle(home, trust=trust or (home.name if home != folder else None), **settings)
    with service:
        if service.reason:
            print(f"the original serves: {service.reason}", flush=True)
        serve_http(service, host, port, lambda text: print(text, flush=True))


@deploy.command
def promote(registry: Path, bundle: str, /, *, trust: str | None = None) -> None:
    """Add a bundle to a registry and make it current; or make a version current that is there already.

    Args:
        registry: the folder; it is made when it is missing.
        bundle: the bundle's folder, or the beginning of a version's digest.
        trust: the digest, or the file of the public key, that the sender gave you by another way.
    """
    from ..deployment.registry import Registry

    kept = Registry(registry)
    version = kept.add(bundle, trust) if Path(bundle).is_dir() else bundle
    print(f"current: {kept.promote(version)}")


@deploy.command
def rollback(registry: Path, /) -> None:
    """Make the version current that was current before.

    Args:
        registry: the folder.
    """
    from ..deployment.registry import Registry

    print(f"current: {Registry(registry).rollback()}")


@deploy.command(name="list")
def list_versions(registry: Path, /) -> None:
    """The versions of a registry, the current one marked, and how it became current.

    Args:
        registry: the folder.
    """
    from ..deployment.registry import Registry

    kept = Registry(registry)
    for version in kept.versions():
        mark = "*" if version == kept.current else " "
        try:
            about = kept.manifest(version).engine.label
        except WorkbenchError as error:
            about = f"damaged: {error.why.splitlines()[0]}"
        print(f"{mark} {version[:12]}  {about}")
    for event in kept.history():
        print(f"{event.run_id.partition('-')[0]}  {event.action} {event.version[:12]}  {event.reason}".rstrip())
