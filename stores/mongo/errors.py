"""Texts for pymongo's errors: which server, its error, and what to change."""

from __future__ import annotations

import re

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError

#: MongoDB's error code -> what to do.
_CODES = {
    18: "it refused the login: check username, password and auth_source",
    11: "it does not know the user: check username and auth_source",
    13: "the user lacks rights: grant the role readWrite on the database in db",
    8000: "it refused the login: check username, password and auth_source",
    10107: "it is no longer the primary: name all members of the replica set in url",
    50: "it took too long: check its load (socket_timeout)",
    14031: "its disk is full",
}

#: Pattern of an error of driver or system -> what to do; the first match counts.
_REMEDIES = (
    (r"Authentication failed|auth failed", _CODES[18]),
    (r"certificate|ssl|tls", "check the TLS options in url"),
    (r"refused", "nothing listens there: check url, and that the server runs"),
    (r"name or service|nodename|resolve|getaddrinfo", "check the host name in url"),
    (r"timed? ?out", "no answer: check url and the network between (socket_timeout)"),
)


def explained(where: str, error: PyMongoError) -> TrackerStoreError:
    """The error to raise instead of a driver's; `where` names the server without a secret."""
    said = str(error)
    if isinstance(error, ServerSelectionTimeoutError):
        said = said.split(", Topology Description")[0]  # long, and of no help
    remedy = _CODES.get(getattr(error, "code", None) or 0) or next(
        (advice for pattern, advice in _REMEDIES if re.search(pattern, said, re.IGNORECASE)), None
    )
    text = f"MongoDB at {where}: {f'{remedy} ({said})' if remedy else said}"
    if getattr(error, "code", None) == 13:
        return TrackerStoreError(text)  # waiting does not grant a right
    unusable = (ConnectionFailure, NotPrimaryError, ConfigurationError, InvalidURI)
    if isinstance(error, unusable) or (
        isinstance(error, OperationFailure) and error.code in _CODES
    ):
        return TrackerStoreConnectionError(text)
    return TrackerStoreError(text)
