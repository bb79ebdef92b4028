"""deploy/compose.yaml as `docker compose config` reads it, against the server, its image and a real Redis."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from quintet.config import ServingConfig
from quintet.config.parsing import parse_config
from quintet.server.process import CUT_SECONDS
from tests.deploy.dockerfile import ROOT, read_stages

COMPOSE = ROOT / "deploy" / "compose.yaml"
GUIDE = ROOT / "docs" / "deploy" / "container.md"
PASSWORD = "a s3cret of 'redis', $HOME"
PROFILES = {"cpu": "cpu", "gpu": "cuda"}
each_profile = pytest.mark.parametrize("profile", PROFILES)


def compose(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no docker compose here")
    command = [docker, "compose", "--file", str(COMPOSE), *arguments]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(command, env=kept | variables, capture_output=True, text=True, check=False)


def rendered(profile: str, **variables: str) -> dict[str, Any]:
    """Return the services that a profile starts, with all variables filled in."""
    variables = {"REDIS_PASSWORD": PASSWORD, **variables}
    done = compose("--profile", profile, "config", "--format", "json", **variables)
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@each_profile
def test_a_profile_is_its_server_and_the_cache(profile: str) -> None:
    services = rendered(profile)
    assert services.keys() == {profile, "redis"}
    build = services[profile]["build"]
    assert (build["target"], Path(build["context"])) == (PROFILES[profile], ROOT)
    assert build["target"] in read_stages()
    assert (ROOT / build["dockerfile"]).is_file()


def test_the_password_of_the_cache_must_be_given() -> None:
    done = compose("--profile", "cpu", "config")
    assert done.returncode != 0
    assert "REDIS_PASSWORD is missing a value: put it into deploy/.env" in done.stderr


@each_profile
def test_the_host_port_is_of_this_machine_alone_unless_told_otherwise(profile: str) -> None:
    (port,) = rendered(profile)[profile]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8000", ServingConfig().port)
    assert port["target"] == int(read_stages()[PROFILES[profile]].values("EXPOSE")[0])
    (port,) = rendered(profile, QUINTET_ADDRESS="0.0.0.0", QUINTET_PORT="8123")[profile]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("0.0.0.0", "8123", ServingConfig().port)


def test_only_the_gpu_profile_has_a_gpu_the_one_that_is_named() -> None:
    (device,) = rendered("gpu", QUINTET_GPU="3")["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["device_ids"], device["capabilities"]) == ("nvidia", ["3"], ["gpu"])
    assert "deploy" not in rendered("cpu")["cpu"]


@each_profile
def test_the_server_has_time_to_finish_its_answers(profile: str) -> None:
    grace = rendered(profile)[profile]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= ServingConfig().drain_seconds + CUT_SECONDS + 5


@each_profile
def test_what_may_be_written_to_is_what_the_image_writes_to(profile: str) -> None:
    server = rendered(profile)[profile]
    stage = read_stages()[PROFILES[profile]]
    assert server["read_only"]
    volumes = {volume["target"]: volume for volume in server["volumes"]}
    assert volumes.keys() == {*stage.values("WORKDIR"), stage.environment()["HOME"]}
    assert server["tmpfs"] == ["/tmp"]
    assert server["user"] == stage.values("USER")[0]
    assert volumes["/project"]["type"] == "volume"
    own = rendered(profile, QUINTET_PROJECT="/srv/wrenfield", QUINTET_USER="1000:1000")[profile]
    (project,) = [volume for volume in own["volumes"] if volume["target"] == "/project"]
    assert (project["type"], project["source"]) == ("bind", "/srv/wrenfield")
    assert own["user"] == "1000:1000"


@each_profile
def test_services_start_in_order_come_back_and_keep_little_of_their_logs(profile: str) -> None:
    services = rendered(profile)
    assert services[profile]["depends_on"]["redis"]["condition"] == "service_healthy"
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"]


def test_the_cache_is_reached_by_the_server_alone() -> None:
    services = rendered("cpu")
    assert "ports" not in services["redis"]
    assert services["redis"]["networks"].keys() == {"cache"}
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["cache"] == {"internal": True}


@each_profile
def test_the_guides_section_of_quintet_yaml_names_the_cache_that_is_there(profile: str) -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    departments = "departments: {hr: {description: Leave, data: hr.jsonl}}\n"
    store = parse_config(departments + written, Path("quintet.yaml")).serving.cache.store
    found = re.fullmatch(r"redis://:\$\{(\w+)\}@(\w+):(\d+)/0", store)
    assert found is not None
    services = rendered(profile)
    assert found[1] in services[profile]["environment"]
    assert found[2] in services
    assert set(services[found[2]]["networks"]) <= set(services[profile]["networks"])


def test_the_caches_command_starts_a_redis_that_wants_the_password(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on PATH")
    service = rendered("cpu", REDIS_MEMORY="64mb")["redis"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shell, option, script = [word.replace("$$", "$") for word in service["command"]]
    script = script.replace("redis-server -", f"redis-server - --bind 127.0.0.1 --port {port} --dir {tmp_path}")
    password = service["environment"]["REDIS_PASSWORD"]
    environment = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": password}
    with subprocess.Popen([shell, option, script], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port, password=password, retry=Retry(NoBackoff(), 0)) as client:
                _wait_for(client, process)
                assert client.config_get("maxmemory*")["maxmemory"] == str(64 * 2**20)
            with (
                redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()
            assert password.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        finally:
            process.terminate()
    assert process.returncode == 0


def _wait_for(client: "redis.Redis", process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.01)
    raise TimeoutError(f"redis-server does not answer; exit code {process.poll()}")
