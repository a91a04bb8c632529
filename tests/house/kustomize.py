"""Renders our kustomizations without kubectl, as far as they go, and refuses what does not fit.

Known: resources, generators of ConfigMaps and Secrets, strategic merge patches with or without a
target, images and replicas. Anything else in a kustomization is an error.
"""

import base64
import re
from pathlib import Path
from typing import Any, Final

import yaml

Doc = dict[str, Any]
_KNOWN: Final = {
    "apiVersion",
    "kind",
    "resources",
    "generatorOptions",
    "configMapGenerator",
    "secretGenerator",
    "patches",
    "images",
    "replicas",
}
_KEYS: Final = {
    "containers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""Lists of a pod that are merged entry by entry, and by which field."""


class KustomizeError(Exception):
    """A kustomization names something that is not there."""


def render(folder: Path) -> list[Doc]:
    """Return every resource that `kubectl apply -k` would send."""
    path = folder / "kustomization.yaml"
    spec = yaml.safe_load(path.read_text())
    if unknown := set(spec) - _KNOWN:
        raise KustomizeError(f"{path}: {sorted(unknown)} is not known here.")
    docs: list[Doc] = []
    for name in spec.get("resources", ()):
        target = folder / name
        docs += render(target) if target.is_dir() else load(target)
    for kind, field in (("ConfigMap", "configMapGenerator"), ("Secret", "secretGenerator")):
        for generator in spec.get(field, ()):
            _generate(docs, kind, generator, folder)
    for patch in spec.get("patches", ()):
        _patch(docs, patch, folder)
    for image in spec.get("images", ()):
        _retag(docs, image)
    for count in spec.get("replicas", ()):
        _scale(docs, count)
    identities = [(doc["kind"], _name(doc)) for doc in docs]
    if len(identities) != len(set(identities)):
        raise KustomizeError(f"{path}: two resources have the same kind and name.")
    return docs


def load(path: Path) -> list[Doc]:
    """Return the documents of a YAML file."""
    return [doc for doc in yaml.safe_load_all(path.read_text()) if doc]


def pod_spec(doc: Doc) -> Doc | None:
    """Return the pod that a workload makes, or None for anything else."""
    template = doc.get("spec", {}).get("template")
    found: Doc | None = template["spec"] if isinstance(template, dict) else None
    return found


def _name(doc: Doc) -> str:
    return str(doc["metadata"]["name"])


def _generate(docs: list[Doc], kind: str, generator: Doc, folder: Path) -> None:
    data = {Path(name).name: (folder / name).read_text() for name in generator.get("files", ())}
    data |= dict(text.split("=", 1) for text in generator.get("literals", ()))
    if kind == "Secret":
        data = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    old = [d for d in docs if d["kind"] == kind and _name(d) == generator["name"]]
    if generator.get("behavior", "create") == "create":
        metadata = {"name": generator["name"]}
        docs.append({"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data})
    elif old:
        old[0]["data"] = data
    else:
        raise KustomizeError(f"{folder}: there is no {kind} {generator['name']} to replace.")


def _patch(docs: list[Doc], patch: Doc, folder: Path) -> None:
    (body,) = load(folder / patch["path"])
    target = patch.get("target", {"kind": body["kind"], "name": _name(body)})
    found = [doc for doc in docs if _is_target(doc, target)]
    if not found:
        raise KustomizeError(f"{folder / patch['path']}: it changes nothing that is there.")
    for doc in found:
        doc["spec"] = _merged(doc["spec"], body["spec"])


def _is_target(doc: Doc, target: Doc) -> bool:
    label, _, value = target.get("labelSelector", "").partition("=")
    labels = doc["metadata"].get("labels", {})
    return bool(
        re.fullmatch(target.get("kind", ".*"), doc["kind"])
        and re.fullmatch(target.get("name", ".*"), _name(doc))
        and (not label or labels.get(label) == value)
    )


def _merged(old: Doc, new: Doc) -> Doc:
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        elif key in _KEYS and key in merged:
            merged[key] = _merged_list(merged[key], value, _KEYS[key])
        else:
            merged[key] = _without_nothing(value)
    return merged


def _merged_list(old: list[Doc], new: list[Doc], key: str) -> list[Doc]:
    merged = {entry[key]: entry for entry in old}
    for entry in new:
        merged[entry[key]] = _merged(merged.get(entry[key], {}), entry)
    return list(merged.values())


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return value


def _retag(docs: list[Doc], image: Doc) -> None:
    found = [
        container
        for doc in docs
        for container in (pod_spec(doc) or {}).get("containers", ())
        if container["image"].partition(":")[0] == image["name"]
    ]
    if not found:
        raise KustomizeError(f"No container has the image {image['name']}.")
    for container in found:
        container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"


def _scale(docs: list[Doc], count: Doc) -> None:
    found = [
        doc for doc in docs if _name(doc) == count["name"] and "replicas" in doc.get("spec", {})
    ]
    if not found:
        raise KustomizeError(f"Nothing called {count['name']} has replicas.")
    for doc in found:
        doc["spec"]["replicas"] = count["count"]
