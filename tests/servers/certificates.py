"""An authority, a server, a client, and a stranger, as PEM files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
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
    """Files in a folder: `ca`, `server` (for 127.0.0.1 alone), `client`, `stranger`; and servers'
    that are not to be trusted: `elsewhere` (for another host), `expired`.

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
        self._issue("elsewhere", ours, "other.example")
        past = datetime.now(timezone.utc) - timedelta(days=1)
        self._issue("expired", ours, "127.0.0.1", not_after=past)
        self.path("client.key").chmod(0o600)  # libpq wants it so
        key = load_pem_private_key(self.path("client.key").read_bytes(), None)
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        self.path("locked.key").write_bytes(locked)

    def path(self, name: str) -> Path:
        return self._folder / name

    def __getitem__(self, name: str) -> str:
        return str(self.path(name))

    def lend(self, name: str, folder: Path, own: Callable[[Path], None]) -> None:
        """Copy a pair as the `server` of a folder, and `ca.pem`, all of them the server's own."""
        files = {f"{name}.pem": "server.pem", f"{name}.key": "server.key", "ca.pem": "ca.pem"}
        for source, target in files.items():
            part = folder / f"{target}.part"
            part.write_bytes(self.path(source).read_bytes())
            part.chmod(0o600)
            own(part)
            part.replace(folder / target)

    def _issue(self, name: str, authority: Any, identity: str, **more: Any) -> None:
        made = authority.issue_cert(identity, **more)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        self.path(f"{name}.pem").write_bytes(chain)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.path(f"{name}.key").write_bytes(pkcs8)
