"""Whom a receiver trusts: a digest of the manifest, or a public key whose owner signed the manifest (Ed25519).

Both come to the receiver by another way than the bundle. A digest names one bundle; a key takes every bundle that
its owner signs. Keys are PEM files. ``openssl genpkey -algorithm ed25519 -out private.pem`` makes a private one,
``openssl pkey -in private.pem -pubout -out public.pem`` its public one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import WorkbenchError, path_of, refuse_unless
from ..files import disk_errors, new_file
from .manifest import SIGNATURE, digest_of, manifest_content

_SIGNATURE_BYTES = 64  # RFC 8032
_ASK = "ask the sender for the bundle, and by another way for its digest or public key"


def sign_bundle(folder, private_key) -> Path:
    """Sign a bundle: write ``manifest.sig`` beside its manifest. The manifest, and so the digest, stays.

    Args:
        folder: what ``export_bundle`` wrote.
        private_key: a PEM file with an Ed25519 private key that has no passphrase.

    Returns:
        The signature's file.

    Raises:
        WorkbenchError: it is no bundle or no such key, or the package cryptography is missing.
    """
    folder = path_of("A bundle", folder).expanduser().absolute()
    signature = _key(Path(private_key), "private").sign(manifest_content(folder))
    with disk_errors(f"The signature of {folder} cannot be written"), new_file(folder / SIGNATURE) as path:
        path.write_bytes(signature)
    return folder / SIGNATURE


def trust_fault(content: bytes, folder: Path, trust) -> str:
    """Why a manifest is not a trusted one; empty when it is.

    Args:
        content: the bytes of the manifest.
        folder: the bundle's, where the signature lies.
        trust: a digest, 64 hexadecimal digits with or without ``sha256:`` before them, or the PEM file of a public
            key.

    Raises:
        WorkbenchError: ``trust`` is neither.
    """
    digest = str(trust).strip().lower().removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{64}", digest):
        found = digest_of(content)
        return "" if found == digest else f"its digest is {found}, trusted is {digest}"
    refuse_unless(
        Path(trust).is_file(),
        f"{str(trust)[:200]!r} is nothing that could be trusted",
        why="it is no digest of 64 hexadecimal digits, and no file with a public key",
        remedy=_ASK,
    )
    return _signature_fault(content, folder / SIGNATURE, Path(trust))


def _signature_fault(content: bytes, path: Path, public_key: Path) -> str:
    key = _key(public_key, "public")
    if not path.is_file() or path.is_symlink():
        return f"it has no signature {SIGNATURE}"
    from cryptography.exceptions import InvalidSignature

    with open(path, "rb") as file:
        signature = file.read(_SIGNATURE_BYTES + 1)
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return f"its signature was not made with the private key of {public_key}"
    return ""


def _key(path: Path, kind: str) -> Any:
    """The Ed25519 key of a PEM file; ``kind`` is ``private`` or ``public``."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        remedy = "pip install cryptography, or give the digest of the bundle instead"
        raise WorkbenchError("No signature can be made or checked", why=str(error), remedy=remedy) from error
    read = {
        "private": (lambda pem: serialization.load_pem_private_key(pem, None), ed25519.Ed25519PrivateKey),
        "public": (serialization.load_pem_public_key, ed25519.Ed25519PublicKey),
    }
    load, expected = read[kind]
    try:
        key, why = load(path.read_bytes()), "it has another kind of key"
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        key, why = None, f"{type(error).__name__}: {error}"[:400]
    refuse_unless(
        isinstance(key, expected),
        f"{path} has no {kind} Ed25519 key in PEM form",
        why=why,
        remedy="openssl genpkey -algorithm ed25519 makes a private key, openssl pkey -pubout its public one",
    )
    return key
