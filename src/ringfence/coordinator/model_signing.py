"""Signs a released model file with OpenSSF model-signing, so that its public CLI verifies it.

    model_signing verify key MODEL --signature MODEL.sig --public_key release.pub

The signature says that the hub released these bytes; what went into them is in the hub's log.
SHA-256, because the public CLI hashes with nothing else unless it is told to.
Source: https://github.com/sigstore/model-transparency (DSSE over an in-toto manifest, P-256).
"""

from __future__ import annotations

from pathlib import Path

from model_signing import hashing, signing


def sign_model(model: Path, *, private_key: Path, passphrase: bytes) -> Path:
    """Write the signature of `model` beside it, under its name and `.sig`; returns its path.

    Unit: `private_key` is an encrypted PKCS#8 file of a P-256 key.
    """
    signature = model.with_name(model.name + ".sig")
    scratch = signature.with_name(signature.name + ".tmp")
    # The library's constructors carry no types.
    hashes = hashing.Config()  # type: ignore[no-untyped-call]
    hashes.use_file_serialization(hashing_algorithm="sha256", max_workers=1)
    config = signing.Config()  # type: ignore[no-untyped-call]
    # It asks for text and hands it on to a function that wants bytes (model-signing 1.1.1).
    config.use_elliptic_key_signer(private_key=private_key, password=passphrase)  # type: ignore[arg-type]
    config.set_hashing_config(hashes).sign(model, scratch)
    scratch.replace(signature)
    return signature
