"""Texts for pymongo's errors: which server, its error, and what to change."""

from __future__ import annotations

import re

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    NotPrimaryError,
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
    50: "it took too long: check its load (socket_timeout)",
    262: "it took too long: check its load (socket_timeout)",
    14031: "its disk is full",
    64: "too few members have confirmed the write in time: check the replica set",
    100: "the replica set has too few members for the write concern: check it, or w in url",
    **dict.fromkeys(
        (10107, 13435, 13436, 189, 11600, 11602, 91),
        "it is no longer the primary: name all members of the replica set in url",
    ),
    **dict.fromkeys((6, 7, 89, 9001, 134), "its replica set is failing: check its members"),
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
    remedy = next((_CODES[code] for code in _codes(error) if code in _CODES), None) or next(
        (advice for pattern, advice in _REMEDIES if re.search(pattern, said, re.IGNORECASE)), None
    )
    text = f"MongoDB at {where}: {f'{remedy} ({said})' if remedy else said}"
    if getattr(error, "code", None) == 13:
        return TrackerStoreError(text)  # waiting does not grant a right
    unusable = (ConnectionFailure, NotPrimaryError, ConfigurationError, InvalidURI)
    if isinstance(error, unusable) or not _CODES.keys().isdisjoint(_codes(error)):
        return TrackerStoreConnectionError(text)
    return TrackerStoreError(text)


def _codes(error: PyMongoError) -> list[int]:
    """The codes of an error, and of what an insertion of several documents met."""
    details = getattr(error, "details", None) or {}
    met = [details, *details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    codes = [getattr(error, "code", None), *(one.get("code") for one in met)]
    return [code for code in codes if isinstance(code, int)]
