"""The Tiltfile, evaluated with builtins that record: it builds, deploys and names what there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import starlark

from app.modules import MODULES
from tests.house.kustomize import pod_spec, render
from tests.house.tree import ROOT

Call = tuple[tuple[Any, ...], dict[str, Any]]
RECORDED: Final = (
    "allow_k8s_contexts",
    "docker_build",
    "k8s_resource",
    "k8s_yaml",
    "local_resource",
    "update_settings",
)
RETURNED: Final = ("fall_back_on", "kustomize", "run", "sync")


class Tilt:
    """What a run of the Tiltfile asked for; `arguments` are those after `tilt up --`."""

    def __init__(self, arguments: dict[str, bool]) -> None:
        self.calls: dict[str, list[Call]] = {name: [] for name in (*RECORDED, "define_bool")}
        module = starlark.Module()
        module["TRIGGER_MODE_MANUAL"] = "manual"
        module.add_callable("_define_bool", self._recorder("define_bool"))
        module.add_callable("_parse", lambda: dict(arguments))
        for name in RECORDED:
            module.add_callable(name, self._recorder(name))
        for name in RETURNED:
            module.add_callable(name, lambda *args, _name=name: [_name, *args])
        dialect = starlark.Dialect.extended()
        known = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        prelude = "config = struct(define_bool=_define_bool, parse=_parse)"
        for name, text in (("prelude", prelude), ("Tiltfile", (ROOT / "Tiltfile").read_text())):
            starlark.eval(module, starlark.parse(name, text, dialect), known)

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(*args: object, **kwargs: object) -> None:
            self.calls[name].append((args, kwargs))

        return record

    @property
    def images(self) -> dict[str, dict[str, Any]]:
        """The arguments of each image's build."""
        return {args[0]: kwargs for args, kwargs in self.calls["docker_build"]}

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """The arguments of each Kubernetes and local resource."""
        named = [*self.calls["k8s_resource"], *self.calls["local_resource"]]
        return {args[0]: kwargs for args, kwargs in named}

    @property
    def overlay(self) -> Path:
        """The folder that is deployed."""
        ((args, _),) = self.calls["k8s_yaml"]
        return ROOT / str(args[0][1])


@pytest.fixture(params=[False, True], ids=["cpu", "gpu"])
def tilt(request: pytest.FixtureRequest) -> Tilt:
    return Tilt({"gpu": request.param})


def test_the_gpu_is_an_option_and_decides_the_overlay() -> None:
    overlays = [Tilt(arguments).overlay.name for arguments in ({}, {"gpu": True})]

    assert ["dev", "gpu"] == overlays
    assert ["gpu"] == [args[0] for args, _ in Tilt({}).calls["define_bool"]]


def test_every_workload_has_a_resource_and_our_images_are_built(tilt: Tilt) -> None:
    workloads = {
        doc["metadata"]["name"]: pod["containers"][0]["image"].partition(":")[0]
        for doc in render(tilt.overlay)
        if (pod := pod_spec(doc)) is not None
    }

    named = {args[0] for args, _ in tilt.calls["k8s_resource"]}
    ours = {image for image in workloads.values() if image.startswith("turnpike")}
    assert set(MODULES) <= set(workloads)
    assert set(workloads) == named
    assert {"turnpike"} == {workloads[target] for target in MODULES}
    assert ours == set(tilt.images)


def test_every_path_exists_and_every_build_gets_what_its_dockerfile_copies(tilt: Tilt) -> None:
    for image, build in tilt.images.items():
        dockerfile = (ROOT / build["dockerfile"]).read_text()
        synced = [step[1] for step in build.get("live_update", ()) if step[0] == "sync"]
        watched = [
            path
            for step in build.get("live_update", ())
            if step[0] == "fall_back_on"
            for path in step[1]
        ]
        for path in (*build["only"], *synced, *watched):
            assert (ROOT / path).exists(), path
        for line in dockerfile.splitlines():
            if line.startswith("COPY") and "--from" not in line:
                sources = [word for word in line.split()[1:-1] if not word.startswith("--")]
                assert all(_is_in(source, build["only"]) for source in sources), (image, line)
        if "target" in build:
            assert f" AS {build['target']}\n" in dockerfile
    for resource in tilt.resources.values():
        for path in resource.get("deps", ()):
            assert (ROOT / path).exists(), path


def test_every_resource_has_a_label_and_depends_on_what_there_is(tilt: Tilt) -> None:
    for name, resource in tilt.resources.items():
        assert resource["labels"], name
        assert set(resource.get("resource_deps", ())) <= set(tilt.resources), name


def test_forwarded_ports_are_ports_of_the_pods(tilt: Tilt) -> None:
    ports = {
        doc["metadata"]["name"]: {
            port["containerPort"] for port in pod["containers"][0].get("ports", ())
        }
        for doc in render(tilt.overlay)
        if (pod := pod_spec(doc)) is not None
    }

    forwards = {
        args[0]: kwargs.get("port_forwards", ()) for args, kwargs in tilt.calls["k8s_resource"]
    }
    for name, forwarded in forwards.items():
        assert {int(forward.split(":")[1]) for forward in forwarded} <= ports[name], name
    assert ["3000:3000", "3001:3001", "3015:3015"] == forwards["gateway"]


def test_checks_wait_until_they_are_asked_for_and_call_make(tilt: Tilt) -> None:
    targets = (ROOT / "Makefile").read_text()

    for args, kwargs in tilt.calls["local_resource"]:
        assert kwargs["auto_init"] is False, args
        assert f"\n{kwargs['cmd'].split()[1]}:" in targets, args
        assert kwargs["cmd"].startswith("make "), args


def test_it_only_ever_touches_a_cluster_on_this_machine(tilt: Tilt) -> None:
    ((contexts, _),) = tilt.calls["allow_k8s_contexts"]

    assert contexts[0]
    assert tilt.calls["update_settings"]


def _is_in(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
