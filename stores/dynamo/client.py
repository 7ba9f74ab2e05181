"""The tables of a `DynamoTrackerStore`, and texts for boto3's errors."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
    WaiterError,
)

from ticketlock import process
from ticketlock.aio.backoff import Backoff
from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError

from .layout import Item

#: DynamoDB's error code -> what to do.
_CODES = {
    "UnrecognizedClientException": "it refused the credentials: check those of the AWS chain",
    "InvalidSignatureException": "it refused the credentials: check the secret key and the clock",
    "MissingAuthenticationTokenException": "it requires credentials: provide them in the AWS chain",
    "ExpiredTokenException": "the session token has expired: renew it",
    "AccessDeniedException": (
        "the role lacks rights: allow dynamodb:DescribeTable, GetItem, PutItem, UpdateItem, "
        "DeleteItem, Query, Scan, ConditionCheckItem, BatchWriteItem on all its tables, and "
        "CreateTable unless they exist"
    ),
    "ProvisionedThroughputExceededException": "the table's throughput is used up: raise it",
    "ThrottlingException": "it throttles us: raise the table's or the account's limits",
    "RequestLimitExceeded": "it throttles us: raise the account's limits",
    "LimitExceededException": "too many tables are being created at a time: try again",
    "InternalServerError": "it had an internal error: try again",
    "ServiceUnavailable": "it is not available: try again",
}

#: Attempts at an operation that collides with others.
_TRIES = 20

#: Attempts at a transaction of which a part is throttled: three seconds at most.
_THROTTLED = 6
#: Reason of a throttled part of a transaction -> the error code that means the same.
_REASONS = {
    "ThrottlingError": "ThrottlingException",
    "ProvisionedThroughputExceeded": "ProvisionedThroughputExceededException",
    "RequestLimitExceeded": "RequestLimitExceeded",
}

#: Seconds between checks of a table that is being created, and the number of checks.
_LOOKS = {"Delay": 1, "MaxAttempts": 120}


class DynamoClient:
    """boto3's client and the tables, created at the first use. It blocks; threads may share it.

    Args:
        endpoint_url: URL of a local server; None: AWS.
        timeout: seconds to connect, and seconds to wait for an answer.
    """

    def __init__(
        self, table: str, region: str, endpoint_url: str | None, timeout: float, connections: int
    ) -> None:
        self.heads, self.events = table, f"{table}_events"
        self.outbox, self.letters = f"{table}_outbox", f"{table}_dead_letters"
        self.where = endpoint_url or region
        self._settings = {"region_name": region, "endpoint_url": endpoint_url}
        self._config = Config(
            connect_timeout=timeout,
            read_timeout=timeout,
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": 4},
        )
        self._lock = threading.Lock()
        self._client: Any = None
        self._lettered = False
        process.tell_of_forks(self)

    def forked(self) -> None:
        """Leave connections to the parent, in a forked child, where its lock may never be free."""
        process.leave_to_parent(self._client)
        self._lock, self._client = threading.Lock(), None

    def connect(self) -> None:
        """Connect, and create missing tables. Raises boto3's errors."""
        self._live()

    def call(self, operation: str, **parameters: Any) -> Any:
        """Run an operation by its name in boto3. Raises boto3's errors.

        boto3 repeats throttled operations, but not a transaction of which one part is throttled.
        """
        backoff = Backoff(0.1, 3.2, jitter=1.0)
        for attempt in range(_THROTTLED):
            try:
                return getattr(self._live(), operation)(**parameters)
            except ClientError as error:
                if not throttled(error) or attempt == _THROTTLED - 1:
                    raise
            time.sleep(backoff.next())
        raise AssertionError("unreachable")

    def settle(self, operation: str, **parameters: Any) -> Any:
        """Run an operation, and repeat it while others write to the same item."""
        backoff = Backoff(0.02, 0.4, jitter=0.9)
        for attempt in range(_TRIES):
            try:
                return self.call(operation, **parameters)
            except ClientError as error:
                if not collided(error) or attempt == _TRIES - 1:
                    raise
            time.sleep(backoff.next())
        raise AssertionError("unreachable")

    def delete_all(self, requests: Sequence[Mapping[str, Any]]) -> None:
        """Delete events by a batch of requests, and repeat those that are throttled."""
        backoff = Backoff(0.05, 1.0, jitter=0.6)
        for _ in range(_TRIES):
            answer = self.call("batch_write_item", RequestItems={self.events: requests})
            left = answer.get("UnprocessedItems", {}).get(self.events, [])
            if not left:
                return
            requests = left
            time.sleep(backoff.next())
        raise TrackerStoreConnectionError(
            f"DynamoDB at {self.where}: {_CODES['ThrottlingException']} ({len(requests)} items of "
            f"{self.events} are left to be deleted)"
        )

    def make_letters(self) -> None:
        """Create the table of dead letters if it is missing."""
        client = self._live()
        with self._lock:
            if not self._lettered:
                self._ensure(client, self.letters, {"sender_id": "HASH", "position": "RANGE"})
                self._lettered = True

    def pages(self, operation: str, **parameters: Any) -> Iterator[Item]:
        """The items on all pages of a query or scan."""
        while True:
            page = self.call(operation, **parameters)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            parameters["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _live(self) -> Any:
        with self._lock:
            if self._client is None:
                # A new session: the default one is not safe for several threads.
                client = boto3.session.Session().client(
                    "dynamodb", config=self._config, **self._settings
                )
                try:
                    self._ensure(client, self.heads, {"sender_id": "HASH"})
                    self._ensure(client, self.events, {"sender_id": "HASH", "position": "RANGE"})
                    self._ensure(client, self.outbox, {"sender_id": "HASH"})
                except BaseException:
                    client.close()
                    raise
                self._client = client
            return self._client

    def _ensure(self, client: Any, table: str, keys: Mapping[str, str]) -> None:
        """Create a table unless it exists, and wait until it is ready."""
        try:
            status = client.describe_table(TableName=table)["Table"]["TableStatus"]
        except client.exceptions.ResourceNotFoundException:
            status = self._create(client, table, keys)
        if status not in ("ACTIVE", "UPDATING"):
            client.get_waiter("table_exists").wait(TableName=table, WaiterConfig=_LOOKS)

    @staticmethod
    def _create(client: Any, table: str, keys: Mapping[str, str]) -> str:
        try:
            made = client.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": k, "KeyType": kind} for k, kind in keys.items()],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                BillingMode="PAY_PER_REQUEST",
            )
        except client.exceptions.ResourceInUseException:
            return "CREATING"  # another replica is creating it
        return str(made["TableDescription"]["TableStatus"])


def condition_failed(error: ClientError) -> bool:
    """Whether a condition of the request was not met, so that it wrote nothing."""
    failed = "ConditionalCheckFailed"
    return _code(error) == f"{failed}Exception" or failed in _reasons(error)


def failed_at(error: ClientError) -> int | None:
    """Index of the first part of a transaction whose condition was not met."""
    reasons, failed = _reasons(error), "ConditionalCheckFailed"
    return reasons.index(failed) if failed in reasons else None


def collided(error: ClientError) -> bool:
    """Whether another writer collided, so that the operation may be repeated."""
    return _code(error) in (
        "TransactionConflictException",
        "TransactionInProgressException",
    ) or "TransactionConflict" in _reasons(error)


def throttled(error: ClientError) -> bool:
    """Whether a transaction failed because a part of it was throttled.

    False if the condition of another part was not met: repeating it would not help.
    """
    return not condition_failed(error) and any(r in _REASONS for r in _reasons(error))


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _reasons(error: ClientError) -> list[str]:
    """For each part of a transaction the reason why it failed; `None` if it did not fail."""
    return [str(reason.get("Code")) for reason in error.response.get("CancellationReasons", ())]


def explained(where: str, error: Exception) -> TrackerStoreError:
    """The error to raise instead of boto3's."""
    if isinstance(error, ClientError):
        code = next((_REASONS[r] for r in _reasons(error) if r in _REASONS), _code(error))
        advice = _CODES.get(code)
        text = f"DynamoDB at {where}: {f'{advice} ({error})' if advice else error}"
        heals = advice and code != "AccessDeniedException"  # waiting does not grant a right
        return (TrackerStoreConnectionError if heals else TrackerStoreError)(text)
    said = re.sub(r"\s+", " ", str(error))
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)):
        said = f"no credentials: provide them in the AWS chain ({said})"
    elif isinstance(error, (ConnectionError, HTTPClientError)):
        said = f"it cannot be reached: check region, endpoint_url and the network ({said})"
    elif isinstance(error, WaiterError):
        said = f"a table does not become ready ({said})"
    elif not isinstance(error, BotoCoreError):
        said = f"check region and endpoint_url ({said})"
    return TrackerStoreConnectionError(f"DynamoDB at {where}: {said}")
