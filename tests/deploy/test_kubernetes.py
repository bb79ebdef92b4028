"""deploy/kubernetes against Kubernetes' schemas, and against the server: what is said there is what the code has."""

import copy
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from quintet.cli import app as cli
from quintet.config import Project
from quintet.server.api import metrics, status
from quintet.server.app import create_app
from quintet.server.middleware.auth import OPEN_PATHS
from quintet.server.middleware.drain import STATUS_PATHS
from quintet.server.process import CUT_SECONDS, KEEP_ALIVE_SECONDS
from tests.deploy.dockerfile import read_stages
from tests.deploy.manifests import KUBERNETES, OVERLAYS, Overlay, faults, load, render
from tests.served import ScriptedEngine

GPUS = tuple(name for name in OVERLAYS if name != "cpu")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
GOOGLES_KEEP_ALIVE = 600
"""How long Google's load balancers keep a connection to a server; it cannot be changed."""


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return load(request.param)


def test_what_the_schemas_do_not_allow_is_found() -> None:
    deployment = copy.deepcopy(load("cpu")["Deployment"])
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    assert any("readinesProbe" in fault for fault in faults(deployment))
    scaled = copy.deepcopy(load("gpu")["ScaledObject"])
    scaled["spec"]["minReplicas"] = 2
    assert any("minReplicas" in fault for fault in faults(scaled))


def test_every_manifest_is_one_that_kubernetes_takes(overlay: Overlay) -> None:
    assert [fault for manifest in overlay.manifests for fault in faults(manifest)] == []


def test_an_overlay_has_all_that_a_service_needs(overlay: Overlay) -> None:
    kinds = sorted(manifest["kind"] for manifest in overlay.manifests)
    everywhere = {
        "Namespace", "ServiceAccount", "ConfigMap", "Deployment", "Service", "Ingress", "PodDisruptionBudget",
        "NetworkPolicy",
    }  # fmt: skip
    scaled = {"HorizontalPodAutoscaler"} if overlay.name == "cpu" else {"ScaledObject", "ServiceMonitor"}
    googles = {"BackendConfig", "ManagedCertificate"} if overlay.name == "gke" else set()
    assert kinds == sorted(everywhere | scaled | googles)


def test_all_is_in_one_namespace_which_holds_pods_to_the_strictest_standard(overlay: Overlay) -> None:
    name = overlay["Namespace"]["metadata"]["name"]
    assert {each["metadata"].get("namespace", name) for each in overlay.manifests} == {name}
    assert overlay["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_port_is_the_servers_from_the_ingress_to_the_container(overlay: Overlay) -> None:
    (port,) = overlay.container["ports"]
    assert port["containerPort"] == overlay.config.serving.port
    (service,) = overlay["Service"]["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    (rule,) = overlay["Ingress"]["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    behind = {"name": overlay["Service"]["metadata"]["name"], "port": {"name": service["name"]}}
    assert path["backend"]["service"] == behind
    assert [each["port"] for each in overlay["NetworkPolicy"]["spec"]["ingress"][0]["ports"]] == [port["name"]]
    labels = overlay["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert overlay["Service"]["spec"]["selector"].items() <= labels.items()


def test_the_command_is_one_that_the_program_understands(overlay: Overlay) -> None:
    program: Any = typer.main.get_command(cli)
    name, *rest = overlay.container["args"]
    with program.commands[name].make_context(name, list(rest)) as context:
        assert (context.params["host"], context.params["port"]) == (None, None)
    assert "command" not in overlay.container
    assert overlay.config.serving.host == "0.0.0.0"
    assert overlay.config.serving.keys == "required"


def test_the_probes_ask_routes_that_there_are_and_that_need_no_key(overlay: Overlay) -> None:
    there = {route.path for route in status.router.routes if isinstance(route, APIRoute)}
    for name in PROBES:
        probe = overlay.container[name]["httpGet"]
        assert probe["path"] in there & OPEN_PATHS & STATUS_PATHS
        assert probe["port"] == overlay.container["ports"][0]["name"]


def test_a_server_that_ends_is_not_ready_and_is_alive(project: Project) -> None:
    """Which path is for which probe, asked of the server itself."""
    app = create_app(project, ScriptedEngine([]))
    app.state.services.drain.begin()
    container = load("cpu").container
    with TestClient(app) as client:
        seen = {name: client.get(container[name]["httpGet"]["path"]).status_code for name in PROBES}
    assert seen == {"startupProbe": 200, "readinessProbe": 503, "livenessProbe": 200}


def test_a_pod_has_time_to_finish_its_answers_once_nothing_is_sent_there_any_more(overlay: Overlay) -> None:
    program, seconds = overlay.container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    probe = overlay.container["readinessProbe"]
    assert int(seconds) >= probe["periodSeconds"] * probe["failureThreshold"]
    needed = int(seconds) + overlay.config.serving.drain_seconds + CUT_SECONDS + 5
    assert overlay.pod["terminationGracePeriodSeconds"] >= needed


def test_each_variable_of_the_config_is_in_the_environment_and_comes_from_the_secret(overlay: Overlay) -> None:
    written = overlay["ConfigMap"]["data"]["quintet.yaml"]
    named = set(re.findall(r"\$\{(\w+)\}", re.sub(r"(?m)^#.*$", "", written)))
    assert named == {"QUINTET_DATABASE_URL", "QUINTET_REDIS_URL", "QUINTET_ARTIFACTS_URL"}
    for name in named:
        reference = overlay.environment[name]["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "quintet"
        assert not reference.get("optional")


def test_no_secret_stands_in_a_manifest(overlay: Overlay) -> None:
    assert not overlay.has("Secret")
    named = {name for name, each in overlay.environment.items() if "value" in each}
    assert named <= {"AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ANON"}


def test_a_pod_may_do_nothing_that_it_does_not_need(overlay: Overlay) -> None:
    context = overlay.pod["securityContext"]
    stage = read_stages()["cpu" if overlay.name == "cpu" else "cuda"]
    user, group = (int(number) for number in stage.values("USER")[0].split(":"))
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, group, group)
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert overlay.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert overlay.pod["automountServiceAccountToken"] is False


def test_what_may_be_written_to_is_what_the_image_writes_to(overlay: Overlay) -> None:
    stage = read_stages()["cpu" if overlay.name == "cpu" else "cuda"]
    mounts = {mount["mountPath"]: mount for mount in overlay.container["volumeMounts"]}
    project = stage.values("WORKDIR")[0]
    assert mounts.keys() == {project, f"{project}/quintet.yaml", stage.environment()["HOME"], "/tmp"}
    assert mounts[f"{project}/quintet.yaml"]["readOnly"]
    assert overlay.container["workingDir"] == project
    volumes = {volume["name"]: volume for volume in overlay.pod["volumes"]}
    assert volumes.keys() == {mount["name"] for mount in mounts.values()}
    assert volumes["config"]["configMap"]["name"] == overlay["ConfigMap"]["metadata"]["name"]


def test_the_image_is_the_one_for_the_machine(overlay: Overlay) -> None:
    tag = overlay.container["image"].rpartition(":")[2]
    assert tag in read_stages()
    resources = overlay.container["resources"]
    gpus = resources["limits"].get("nvidia.com/gpu")
    assert (tag, gpus) == (("cpu", None) if overlay.name == "cpu" else ("cuda", "1"))
    assert resources["requests"].keys() >= {"cpu", "memory"}


def test_pods_with_a_gpu_go_where_there_are_some(overlay: Overlay) -> None:
    pools = {
        "cpu": {},
        "gpu": {"nvidia.com/gpu.present": "true"},
        "eks": {"eks.amazonaws.com/nodegroup": "gpu"},
        "gke": {"cloud.google.com/gke-accelerator": "nvidia-l4"},
        "aks": {"kubernetes.azure.com/agentpool": "gpu"},
    }
    assert overlay.pod.get("nodeSelector", {}) == pools[overlay.name]
    tolerated = {each["key"] for each in overlay.pod.get("tolerations", [])}
    taints = {"cpu": None, "aks": "sku"}
    assert tolerated == {taints.get(overlay.name, "nvidia.com/gpu")} - {None}


def test_pods_are_spread_and_are_not_all_taken_away_at_once(overlay: Overlay) -> None:
    labels = overlay["Deployment"]["spec"]["template"]["metadata"]["labels"]
    spread = overlay.pod["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for each in spread:
        assert each["labelSelector"]["matchLabels"].items() <= labels.items()
    budget = overlay["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert "replicas" not in overlay["Deployment"]["spec"]
    assert overlay["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_there_are_never_fewer_than_two_pods_nor_more_than_the_pool_has() -> None:
    plain = load("cpu")["HorizontalPodAutoscaler"]["spec"]
    assert 2 <= plain["minReplicas"] < plain["maxReplicas"]
    assert plain["scaleTargetRef"]["name"] == load("cpu")["Deployment"]["metadata"]["name"]
    assert "cpu" in load("cpu").container["resources"]["requests"]
    scaled = load("gpu")["ScaledObject"]["spec"]
    assert 2 <= scaled["minReplicaCount"] < scaled["maxReplicaCount"]
    assert scaled["scaleTargetRef"]["name"] == load("gpu")["Deployment"]["metadata"]["name"]
    for behavior in (plain["behavior"], scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]):
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert scaled["cooldownPeriod"] >= 300


def test_the_autoscaler_asks_for_numbers_that_the_server_tells(project: Project) -> None:
    app = create_app(project, ScriptedEngine([]))
    told = set(re.findall(r"^([\w:]+)\{", app.state.services.metrics.text().decode(), re.MULTILINE))
    overlay = load("gpu")
    queries = [trigger["metadata"]["query"] for trigger in overlay["ScaledObject"]["spec"]["triggers"]]
    assert "vllm:num_requests_waiting" in queries[0]
    for query in queries:
        found = re.fullmatch(r'sum\(([\w:]+)\{namespace="(\w+)",service="(\w+)"\}\)', query)
        assert found is not None, query
        assert found[1] in told
        assert list(found.groups())[1:] == [overlay[kind]["metadata"]["name"] for kind in ("Namespace", "Service")]


@pytest.mark.parametrize("name", GPUS)
def test_prometheus_reads_the_numbers_where_they_are(name: str) -> None:
    overlay = load(name)
    (endpoint,) = overlay["ServiceMonitor"]["spec"]["endpoints"]
    (route,) = [route for route in metrics.router.routes if isinstance(route, APIRoute)]
    assert endpoint["path"] == route.path
    assert endpoint["port"] in [port["name"] for port in overlay["Service"]["spec"]["ports"]]
    assert endpoint["authorization"]["type"] == "Bearer"
    selector = overlay["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= overlay["Service"]["metadata"]["labels"].items()


def test_an_ingress_is_for_one_name_with_tls_and_lets_answers_take_their_time(overlay: Overlay) -> None:
    ingress, notes = overlay["Ingress"]["spec"], overlay["Ingress"]["metadata"]["annotations"]
    (rule,) = ingress["rules"]
    seconds = overlay.config.serving.deadline_seconds
    if overlay.name == "gke":
        backend = overlay["BackendConfig"]["spec"]
        assert overlay["ManagedCertificate"]["spec"]["domains"] == [rule["host"]]
        assert backend["timeoutSec"] >= seconds
        assert backend["healthCheck"]["port"] == overlay.config.serving.port
        assert backend["healthCheck"]["requestPath"] == overlay.container["readinessProbe"]["httpGet"]["path"]
        assert notes["kubernetes.io/ingress.allow-http"] == "false"
        return
    assert ingress["tls"][0]["hosts"] == [rule["host"]]
    if overlay.name == "eks":
        assert notes["alb.ingress.kubernetes.io/healthcheck-path"] == "/ready"
        attributes = notes["alb.ingress.kubernetes.io/load-balancer-attributes"]
        assert attributes == f"idle_timeout.timeout_seconds={seconds:g}"
    if overlay.name == "aks":
        assert notes["nginx.ingress.kubernetes.io/proxy-read-timeout"] == f"{seconds:g}"
        assert notes["nginx.ingress.kubernetes.io/proxy-body-size"] == f"{overlay.config.serving.max_body // 10**6}m"
        assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"


def test_idle_connections_are_kept_longer_than_any_load_balancer_keeps_them() -> None:
    assert KEEP_ALIVE_SECONDS > GOOGLES_KEEP_ALIVE
    timeout = re.search(r"idle_timeout.timeout_seconds=(\d+)", str(load("eks")["Ingress"]["metadata"]["annotations"]))
    assert timeout is not None
    assert int(timeout[1]) < KEEP_ALIVE_SECONDS


def test_a_shared_volume_may_stand_in_for_the_object_store(tmp_path: Path) -> None:
    parts = {"resources": KUBERNETES / "overlays" / "cpu", "components": KUBERNETES / "components" / "volumes"}
    named = "".join(f"{kind}: [{os.path.relpath(folder, tmp_path)}]\n" for kind, folder in parts.items())
    (tmp_path / "kustomization.yaml").write_text(named)
    manifests = render(tmp_path)
    assert [fault for manifest in manifests for fault in faults(manifest)] == []
    claims = {each["metadata"]["name"] for each in manifests if each["kind"] == "PersistentVolumeClaim"}
    pod = Overlay("volumes", manifests).pod
    used = {each["name"]: each for each in pod["volumes"] if "persistentVolumeClaim" in each}
    assert used.keys() == {"project", "cache"}
    assert {each["persistentVolumeClaim"]["claimName"] for each in used.values()} == claims
    assert all("emptyDir" not in each for each in used.values())
