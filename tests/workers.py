"""How several workers share the tests: by groups, each of which one worker has to itself.

The group is read from the test's id alone: the marks that pytest-xdist has for it do not work
with every pytest.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

#: What takes longest is begun first, and what waits beside what works. Most are named by the
#: server that their tests share, as the tests' parameters or their own names name it.
GROUPS = (
    "demo", "stress", "e2e", "dynamo", "kafka", "mutants", "postgres", "mariadb", "mongo", "pika",
    "redis-cluster", "bot-server", "limits", "page", "tls", "site", "doctor", "streams", "webhooks",
)  # fmt: skip

#: Groups of the tests without such a parameter. Those of the demo keep all processors busy,
#: mutants only wait.
FILES = {
    "test_demo_stores.py": "demo",
    "test_demo.py": "demo",
    "test_documentation_site.py": "site",
    "test_doctor_databases.py": "doctor",
    "test_doctor_redis.py": "doctor",
    "test_doctor_rights.py": "doctor",
    "test_doctor_sets.py": "doctor",
    "test_stress.py": "stress",
    "test_stress_sets.py": "stress",
    "test_e2e.py": "e2e",
    "test_kafka_broker.py": "kafka",
    "test_mutants.py": "mutants",
    "test_outbox_mutants.py": "mutants",
    "test_page.py": "page",
    "test_page_messages.py": "page",
    "test_pika_broker.py": "pika",
    "test_pika_login.py": "pika",
    "test_rabbitmq_streams.py": "streams",
    "test_server.py": "bot-server",
    "test_sql_limits.py": "limits",
    "test_sql_store.py": "postgres",
    "test_sql_tls.py": "tls",
    "test_webhooks.py": "webhooks",
}


def group(nodeid: str) -> str | None:
    """The tests that a test should follow in the same worker."""
    path, _, test = nodeid.partition("::")
    *folders, file = PurePosixPath(path).parts
    if "unit" in folders:
        return None
    own = FILES.get(file)
    if own == "demo":  # its stores' servers are slow for others while it runs
        return own
    named = re.search(rf"[\[_-]({'|'.join(GROUPS)})([]_-]|$)", test)
    return named[1] if named else own


def place(nodeid: str) -> int:
    """Where in the order of all tests a test stands."""
    name = group(nodeid)
    return GROUPS.index(name) if name else len(GROUPS)


class Groups(LoadScopeScheduling):
    """pytest-xdist's scheduler of scopes, the scopes being our groups, or single tests.

    Groups keep the processors busy, and single tests mostly wait: every other worker begins with
    these, so that each waits while others work.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid) or nodeid

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            single = next((scope for scope in self.workqueue if scope not in GROUPS), None)
            if single is not None:
                self.workqueue.move_to_end(single, last=False)
        super()._assign_work_unit(node)
