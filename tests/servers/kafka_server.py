"""An Apache Kafka: that of TICKETLOCK_TEST_KAFKA_BOOTSTRAP, or a child process of the tests.

The jars come from Maven Central and stay in Maven's own cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from . import missing
from .certificates import Certificates
from .processes import carry_out, free_port, popen, temporary_folder

VARIABLE = "TICKETLOCK_TEST_KAFKA_BOOTSTRAP"
USER, PASSWORD = "tester", "p@ss-w0rd"


@lru_cache(maxsize=1)
def class_path() -> str:
    """Where Kafka's jars are; Maven fetches them the first time."""
    maven, java = shutil.which("mvn"), shutil.which("java")
    if not maven or not java:
        missing("Maven or Java", f"apt-get install maven default-jre-headless, or set {VARIABLE}")
    pom = Path(__file__).with_name("kafka") / "pom.xml"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "class-path"
        command = [str(maven), "-q", "-B", "-f", str(pom), "dependency:build-classpath"]
        command.append(f"-Dmdep.outputFile={output}")
        # Offline first: what the cache holds needs no network, and starts sooner.
        for words in (["-o"], []):
            result = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
            if result.returncode == 0:
                return output.read_text().strip()
    missing("Apache Kafka", f"Maven cannot fetch it: {result.stdout[-500:]}")
    raise AssertionError("missing() always raises")


class Kafka:
    """One node that is broker and controller, with a listener of each kind.

    SASL takes PLAIN, SCRAM-SHA-256 and -512, and unsecured OAuth tokens; TLS wants a client
    certificate, SASL over TLS does not. Topics are not made by being used. The listener PROXIED
    names `proxy_port` as its own: a proxy there has all of a client's connections.
    """

    def __init__(self) -> None:
        self._folder = temporary_folder()
        self.folder = Path(self._folder.name)
        self.certificates = Certificates(self.folder / "certificates")
        self.ports: dict[str, int] = {}
        self.proxy_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._admin: AdminClient | None = None

    def __enter__(self) -> Kafka:
        try:
            self._prepare()
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _prepare(self) -> None:
        kinds = ("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL", "PROXIED", "CONTROLLER")
        self.ports = {kind: free_port() for kind in kinds}
        self.proxy_port = free_port()
        files = self.certificates
        keystore = self.folder / "server-and-key.pem"
        keystore.write_text(
            files.path("server.key").read_text() + files.path("server.pem").read_text()
        )
        listeners = ",".join(f"{kind}://127.0.0.1:{port}" for kind, port in self.ports.items())
        advertised = listeners.rpartition(",")[0].replace(
            str(self.ports["PROXIED"]), str(self.proxy_port)
        )
        login = "org.apache.kafka.common.security"
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self.ports['CONTROLLER']}",
            f"listeners={listeners}",
            f"advertised.listeners={advertised}",
            (
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,"
                "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT"
            ),
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAINTEXT",
            f"log.dirs={self.folder / 'data'}",
            "num.partitions=3",
            "auto.create.topics.enable=false",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "group.initial.rebalance.delay.ms=0",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={keystore}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={files['ca.pem']}",
            "listener.name.ssl.ssl.client.auth=required",
        ]
        for listener in ("sasl_plaintext", "sasl_ssl"):
            jaas = f"listener.name.{listener}."
            lines += [
                (
                    f"{jaas}plain.sasl.jaas.config={login}.plain.PlainLoginModule required"
                    f' user_{USER}="{PASSWORD}";'
                ),
                f"{jaas}scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;",
                f"{jaas}scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;",
                (
                    f"{jaas}oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule"
                    ' required unsecuredLoginStringClaim_sub="server";'
                ),
            ]
        (self.folder / "server.properties").write_text("\n".join(lines) + "\n")
        scram = f"[name={USER},password={PASSWORD}]"
        self._java(
            "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg",
            "-c", "server.properties", "--add-scram", f"SCRAM-SHA-256={scram}",
            "--add-scram", f"SCRAM-SHA-512={scram}",
        )  # fmt: skip

    def _words(self, main: str) -> list[str]:
        options = ["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        options.append(f"-Dlog4j.configuration=file:{self.folder}/log4j.properties")
        return ["java", *options, "-cp", class_path(), main]

    def _java(self, main: str, *words: str) -> None:
        (self.folder / "log4j.properties").write_text(
            "log4j.rootLogger=WARN, out\n"
            "log4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.out.layout.ConversionPattern=%d %p %c %m%n\n"
        )
        carry_out([*self._words(main), *words], cwd=self.folder)

    def start(self) -> Kafka:
        """Start, or start again on the same data; returns when it answers."""
        with (self.folder / "output").open("ab") as output:
            command = [*self._words("kafka.Kafka"), "server.properties"]
            self.process = popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder)
        end = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "output").read_text()[-2000:])
            with contextlib.suppress(KafkaException):
                self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
                self._admin.list_topics(timeout=0.5)
                return self
            time.sleep(0.1)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports['PLAINTEXT']}"

    def section(self, kind: str = "PLAINTEXT", **keys: Any) -> dict[str, Any]:
        """A section of an `event_broker` for the listener of a security protocol."""
        section = {"type": "kafka", "url": f"127.0.0.1:{self.ports[kind]}"}
        return {**section, "security_protocol": kind, **keys}

    def stop(self, *, kill: bool = False) -> None:
        """End the server; `kill` with SIGKILL."""
        process, self.process, self._admin = self.process, None, None
        if process is None:
            return
        (process.kill if kill else process.terminate)()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.cleanup()


class GivenKafka:
    """The cluster of the environment variable, for tests that need no control over it."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def section(self, kind: str = "PLAINTEXT", **keys: Any) -> dict[str, Any]:
        return {"type": "kafka", "url": self.bootstrap, "security_protocol": kind, **keys}


def given() -> GivenKafka | None:
    """The cluster that the environment names."""
    bootstrap = os.environ.get(VARIABLE)
    return GivenKafka(bootstrap) if bootstrap else None


def make_topic(bootstrap: str, topic: str, partitions: int = 3, **config: str) -> None:
    """Make a topic, and wait until its partitions have a leader."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    new = NewTopic(topic, partitions, 1, config=config)
    admin.create_topics([new])[topic].result(20)
    end = time.monotonic() + 20
    while True:
        found = admin.list_topics(topic, timeout=5).topics[topic]
        if found.error is None and len(found.partitions) == partitions:
            return
        assert time.monotonic() < end, "the topic does not appear"
        time.sleep(0.05)


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.delete_topics([topic])[topic].result(20)


def consume(bootstrap: str, topic: str, count: int, seconds: float = 20) -> list[Any]:
    """Messages of a topic by a plain consumer: `count` of them, and what comes right after."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader of {topic} {time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    try:
        consumer.subscribe([topic])
        found: list[Any] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = consumer.poll(0.5)
            if message is not None and not message.error():
                found.append(message)
            elif len(found) >= count:
                break
        return found
    finally:
        consumer.close()
