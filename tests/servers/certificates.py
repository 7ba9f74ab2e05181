"""An authority, a server, a client, and a stranger, as PEM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


class Certificates:
    """Files in a folder: `ca`, `server` (for 127.0.0.1 alone), `client`, `stranger`.

    Each of them but `ca` is a pair `<name>.pem` and `<name>.key`; the server's name is not
    `localhost`, so that a check of host names can fail. `locked.key` is the client's key under
    a password.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        ours, theirs = trustme.CA(), trustme.CA()
        ours.cert_pem.write_to_path(self.path("ca.pem"))
        theirs.cert_pem.write_to_path(self.path("other-ca.pem"))
        self._issue("server", ours, "127.0.0.1")
        self._issue("client", ours, "client.example")
        self._issue("stranger", theirs, "client.example")
        key = load_pem_private_key(self.path("client.key").read_bytes(), None)
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        self.path("locked.key").write_bytes(locked)

    def path(self, name: str) -> Path:
        return self._folder / name

    def __getitem__(self, name: str) -> str:
        return str(self.path(name))

    def _issue(self, name: str, authority: Any, identity: str) -> None:
        made = authority.issue_cert(identity)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        self.path(f"{name}.pem").write_bytes(chain)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.path(f"{name}.key").write_bytes(pkcs8)
