"""The files of docs/deploy agree with each other, and with what reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from servers.nginx import CHANNELS, DEPLOY, OPERATORS, check, write_configuration

from ticketlock.conversations import Conversations
from ticketlock.endpoints import Endpoints, read_endpoints
from ticketlock.endpoints.registry import (
    create_event_database,
    create_lock_store,
    create_tracker_store,
    event_broker_maker,
)
from ticketlock.server import Settings, create_app

PORT = 5005
TOKENS = {"TICKETLOCK_CHANNEL_TOKEN", "TICKETLOCK_AUTH_TOKEN", "TICKETLOCK_ADMIN_TOKEN"}
SECRETS = {"REDIS_PASSWORD", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", *TOKENS}
FILES = ("endpoints.yml", "endpoints.kafka.yml")


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


def compose() -> dict[str, Any]:
    """compose.yaml, its `<<` merged."""
    parsed: dict[str, Any] = YAML(typ="safe").load(text("compose.yaml"))
    return parsed


def kubernetes() -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(text("kubernetes.yaml")))


def deployment(name: str) -> dict[str, Any]:
    """The specification of the pods of a Deployment."""
    (found,) = (
        d for d in kubernetes() if d["kind"] == "Deployment" and d["metadata"]["name"] == name
    )
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def seconds(span: str) -> int:
    """Seconds of nginx's and Compose's `30s`."""
    assert span.endswith("s"), span
    return int(span[:-1])


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"the {name}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.usefixtures("secrets")
def test_every_section_is_accepted(name: str) -> None:
    """No key is unknown, misspelled or of the wrong type."""
    endpoints = read_endpoints(DEPLOY / name)
    assert type(create_lock_store(endpoints.section("lock_store"))).__name__ == (
        "ConcurrentRedisLockStore"
    )
    store = create_tracker_store(endpoints.section("tracker_store"))
    assert "'tracker' at db" in store.settings.address
    _, database = create_event_database(endpoints.section("event_service"), "event_service")
    assert "'events' at db" in database.address
    assert event_broker_maker(endpoints.section("event_broker"), "event_broker") is not None
    settings = Settings.from_section(endpoints.section("server"))
    assert settings.admin_token == "the TICKETLOCK_ADMIN_TOKEN"
    assert settings.auth_token == "the TICKETLOCK_AUTH_TOKEN"
    assert settings.channel_token == "the TICKETLOCK_CHANNEL_TOKEN"
    assert not settings.open_channels


@pytest.mark.parametrize("name", FILES)
def test_no_secret_has_a_default(name: str) -> None:
    """A forgotten password is an error, and not an empty one."""
    variables = re.findall(r"\$\{(\w+)(:-)?", text(name))
    demanded = {v for v, default in variables if not default}
    assert TOKENS <= demanded <= SECRETS
    assert {v for v, default in variables if default}.isdisjoint(SECRETS)


def test_compose_demands_every_secret_and_the_example_gives_none() -> None:
    """A copy of env.example that was not filled in does not start."""
    for secret in SECRETS:
        assert f"{secret}: ${{{secret}:?" in text("compose.yaml")
        assert re.search(rf"(?m)^{secret}=$", text("env.example"))


@pytest.mark.usefixtures("secrets")
def test_the_two_differ_in_the_broker_alone() -> None:
    def others(name: str) -> dict[str, Any]:
        endpoints: Endpoints = read_endpoints(DEPLOY / name)
        sections = endpoints.sections.items()
        return {key: (s.type, s.url, s.kwargs) for key, s in sections if key != "event_broker"}

    assert others(FILES[0]) == others(FILES[1])


def test_hosts_of_the_endpoints_are_services() -> None:
    """What a host is called where nothing is set is what compose.yaml calls it."""
    services = compose()["services"]
    for name in FILES:
        hosts = re.findall(r"\$\{\w+_(?:HOST|BOOTSTRAP):-(\w+)", text(name))
        assert hosts
        assert set(hosts) <= set(services)
    assert services["redis"]["command"][-1] == "${REDIS_PASSWORD}"
    assert services["db"]["environment"]["POSTGRES_USER"] == "ticketlock"
    assert services["rabbit"]["environment"]["RABBITMQ_DEFAULT_USER"] == "ticketlock"


def test_the_containers_are_given_every_variable() -> None:
    services = compose()["services"]
    for name in ("server", "events"):
        assert set(services[name]["environment"]) >= SECRETS
    given = set(re.findall(r"(?m)^(\w+)=", text("env.example")))
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text("compose.yaml")))
    assert used | {"COMPOSE_PROFILES"} == given


def test_every_volume_and_file_that_is_mounted_exists() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.replace("${ENDPOINTS:-endpoints.yml}", "endpoints.yml").split(":")[0]
            known = (
                (DEPLOY / source).exists() if source[0] == "." else source in compose()["volumes"]
            )
            assert known, volume


def test_one_port_for_all() -> None:
    assert f"server server:{PORT} resolve" in text("replicas.conf")
    assert f"EXPOSE {PORT}" in text("Dockerfile")
    assert f'"--port", "{PORT}"' in text("Dockerfile")
    assert f"http://127.0.0.1:{PORT}/" in text("Dockerfile")
    (container,) = deployment("ticketlock-server")["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    ports = compose()["services"]["nginx"]["ports"]
    assert ports == [f"{CHANNELS}:{CHANNELS}", f"127.0.0.1:{OPERATORS}:{OPERATORS}"]
    assert set(re.findall(r"listen (\d+);", text("nginx.conf"))) == {str(CHANNELS), str(OPERATORS)}


def test_kubernetes_has_the_same_endpoints_and_takes_secrets_by_reference() -> None:
    (config,) = (d for d in kubernetes() if d["kind"] == "ConfigMap")
    assert config["data"]["endpoints.yml"] == text("endpoints.yml")
    assert not [d for d in kubernetes() if d["kind"] == "Secret"]
    for name in ("ticketlock-server", "ticketlock-events"):
        (container,) = deployment(name)["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "ticketlock"}}]
    for secret in SECRETS:
        assert f"--from-literal={secret}=" in text("kubernetes.yaml")


def test_kubernetes_selectors_find_their_pods() -> None:
    labels = {}
    for document in kubernetes():
        if document["kind"] == "Deployment":
            own = document["spec"]["template"]["metadata"]["labels"]
            assert document["spec"]["selector"]["matchLabels"] == own
            labels[document["metadata"]["name"]] = own
    for document in kubernetes():
        selector = document.get("spec", {}).get("selector", {})
        if document["kind"] in ("Service", "PodDisruptionBudget"):
            assert selector.get("matchLabels", selector) == labels["ticketlock-server"]


def test_the_image_does_not_run_as_root() -> None:
    lines = text("Dockerfile").splitlines()
    (user,) = (line.split()[1] for line in lines if line.startswith("USER "))
    assert deployment("ticketlock-server")["securityContext"]["runAsUser"] == int(user) > 0
    assert 'ENTRYPOINT ["ticketlock"]' in lines  # a shell would keep SIGTERM to itself


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    command, _ = write_configuration(tmp_path, [PORT])
    said = check(command)
    assert "syntax is ok" in said
    assert "[warn]" not in said


def test_a_broken_nginx_configuration_is_noticed(tmp_path: Path) -> None:
    command, _ = write_configuration(tmp_path, [])  # an upstream without servers
    with pytest.raises(subprocess.CalledProcessError, match="exit status 1"):
        check(command)


def test_nginx_replays_nothing() -> None:
    """What nginx may send twice must be named by a message_id, which it cannot see."""
    (conditions,) = re.findall(r"proxy_next_upstream ([^;]*);", text("nginx.conf"))
    assert conditions.split() == ["error", "timeout"]


def test_nginx_waits_longer_than_a_replica() -> None:
    """The replica says what became of a message: nginx does not give up before it."""
    (patience,) = re.findall(r"proxy_read_timeout (\w+);", text("nginx.conf"))
    assert seconds(patience) > Settings().request_timeout
    assert "client_max_body_size 1m;" in text("nginx.conf")
    assert Settings().max_body == 2**20


def test_a_replica_that_is_stopped_has_time_to_drain() -> None:
    """Nobody kills it before its turns have ended or been given back."""
    drain = Settings().drain_timeout + 10  # for bots that do not stop, and the last answers
    assert seconds(compose()["services"]["server"]["stop_grace_period"]) > drain
    pod = deployment("ticketlock-server")
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + drain


def test_probes_and_locations_are_paths_of_the_server() -> None:
    known = {route.path for route in create_app(Conversations()).routes}
    (container,) = deployment("ticketlock-server")["containers"]
    probes = [v["httpGet"]["path"] for k, v in container.items() if k.endswith("Probe")]
    assert probes == ["/health", "/health", "/ready"]
    wanted = {*probes, *re.findall(r"127\.0\.0\.1:5005(/\w+)", text("Dockerfile"))}
    wanted |= set(re.findall(r"location (?:= )?(/\w+) ", text("nginx.conf")))
    assert wanted <= known
