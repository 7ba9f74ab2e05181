"""DynamoDB: the tables, their keys, and how much they may be used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from .finding import NOT_LOOKED_AT, Finding, fault
from .visit import Visit

SCHEMA = fault(
    "dynamo-schema", "error",
    "The table is another program's: no turn can be stored.",
    "stores/dynamo/layout.py",
)  # fmt: skip

PROVISIONED = fault(
    "dynamo-provisioned", "warning",
    "Above its provisioned capacity the table throttles: turns wait, and fail when their time is over.",
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/capacity-mode.html",
)  # fmt: skip

#: End of a table's name -> its key attributes.
_KEYS = {
    "": {"sender_id": "HASH"},
    "_events": {"sender_id": "HASH", "position": "RANGE"},
    "_outbox": {"sender_id": "HASH"},
}


async def visit(section: str, keys: Mapping[str, Any], timeout: float) -> Visit:
    """Look at the tables that are there.

    Args:
        keys: those of `DynamoKeys`, with defaults.
    """
    where = keys["endpoint_url"] or keys["region"]
    found = Visit(f"DynamoDB at {where}, table {keys['table_name']}", (section,))
    try:
        tables, refused = await asyncio.to_thread(_describe, keys, timeout)
    except import_module("botocore.exceptions").BotoCoreError:
        return found  # the section's own check says why
    found.seen = f"{len(tables)} tables"
    for name, table in tables.items():
        found.findings += [*schema(name, table, _KEYS[name.removeprefix(keys["table_name"])])]
        found.findings += provisioned(name, table)
    if refused:
        found.findings.append(NOT_LOOKED_AT.found(refused, "allow dynamodb:DescribeTable"))
    return found


def _describe(keys: Mapping[str, Any], timeout: float) -> tuple[dict[str, Any], str]:
    """The tables that exist, and why others could not be looked at."""
    boto3: Any = import_module("boto3")
    config: Any = import_module("botocore.config").Config(
        connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1}
    )
    client = boto3.session.Session().client(
        "dynamodb", region_name=keys["region"], endpoint_url=keys["endpoint_url"], config=config
    )
    tables, refused = {}, ""
    try:
        for end in _KEYS:
            name = keys["table_name"] + end
            try:
                tables[name] = client.describe_table(TableName=name)["Table"]
            except client.exceptions.ResourceNotFoundException:
                continue  # it is created at the first use
            except client.exceptions.ClientError as error:
                refused = str(error)
    finally:
        client.close()
    return tables, refused


def schema(name: str, table: Mapping[str, Any], wanted: Mapping[str, str]) -> Iterator[Finding]:
    """A table has other keys. Source: DescribeTable."""
    keys = {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]}
    if keys != wanted:
        yield SCHEMA.found(
            f"table {name} has the keys {_listed(keys)}, not {_listed(wanted)}",
            "set table_name to a name that is free: the tables are created",
        )


def provisioned(name: str, table: Mapping[str, Any]) -> Iterator[Finding]:
    """A table has a fixed capacity. Source: DescribeTable."""
    if table.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return
    throughput = table.get("ProvisionedThroughput", {})
    reads, writes = throughput.get("ReadCapacityUnits", 0), throughput.get("WriteCapacityUnits", 0)
    if reads or writes:
        yield PROVISIONED.found(
            f"table {name} is provisioned with {reads} reads and {writes} writes a second",
            f"aws dynamodb update-table --table-name {name} --billing-mode PAY_PER_REQUEST, or scale it "
            "automatically",
        )


def _listed(keys: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in keys.items())
