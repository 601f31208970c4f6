"""The commands about shipping: checking a bundle, serving it, and choosing which version is current."""

from __future__ import annotations

from pathlib import Path

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
        trust: the digest that the sender gave you by another way.
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
def triton(folder: Path, repository: Path, /, *, tensorrt: str | None = None, trust: str | None = None) -> None:
    """Add a bundle's engine to a model repository of NVIDIA's Triton Inference Server, as a new version.

    Args:
        folder: the bundle.
        repository: the folder that Triton is started with.
        tensorrt: the version of TensorRT in the Triton container, needed for a plan.
        trust: the digest that the sender gave you by another way.
    """
    from ..deployment.triton import export_triton

    print(export_triton(folder, repository, tensorrt=tensorrt, trust=trust))


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
) -> None:
    """Serve a bundle, or the current one of a registry, over HTTP: Open Inference Protocol, health and metrics.

    Args:
        folder: the bundle or the registry.
        port: 0 takes any free one.
        host: the address to listen at; only this machine reaches the default.
        trust: the digest that the sender gave you by another way.
        streams: calls of the engine that run at the same time.
        batch: images computed together; the batch that the engine is tuned for when left out.
        delay_ms: how long a request waits for others.
        queue: images that may wait; more are refused.
    """
    from ..deployment.registry import Registry
    from ..deployment.server import serve as serve_http
    from ..deployment.service import deploy as deploy_bundle

    if Registry.is_at(folder):
        folder = Registry(folder).current_folder
    service = deploy_bundle(folder, trust=trust, streams=streams, batch=batch, delay_s=delay_ms / 1e3, queue=queue)
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
        trust: the digest that the sender gave you by another way.
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
        print(f"{event.run_id.partition('-')[0]}  {event.action} {event.version[:12]}")
