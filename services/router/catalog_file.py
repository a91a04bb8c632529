"""Reads the `catalogue` section of a `turnpike.yaml`: its references, its mistakes and where."""

from collections.abc import Mapping

from pydantic import ValidationError

from kit.references import resolve
from kit.yaml_lines import YamlError, YamlFile
from services.router.catalog_entries import CatalogueFile
from services.router.provider_entries import KINDS


def parse(text: str, *, variables: Mapping[str, str]) -> CatalogueFile:
    """Return the catalogue section of a `turnpike.yaml` text with its references filled in.

    `${NAME}` takes a value from `variables`, `file:/path` as an `api_key` reads a file.

    Raises:
        YamlError: With the line and a sentence that says what is wrong there.
    """
    source = YamlFile(text)
    section = source.data.get("catalogue") or {}
    try:
        filled = _filled(section, variables)
        return CatalogueFile.model_validate(filled)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # A misspelt key is the cause where a missing one is only its shadow.
        first = min(found, key=lambda item: item["type"] != "extra_forbidden")
        path = list(first["loc"])
        if path[:1] == ["providers"] and path[2:3] and path[2] in KINDS:
            # The kind by which the entry was read; a provider may have that name as well.
            del path[2]
        where = ".".join(str(step) for step in ("catalogue", *path))
        raise YamlError(f"{where}: {first['msg']}", source.line(["catalogue", *path])) from error
    except KeyError as error:
        raise YamlError(
            f"The variable {error.args[0]} is not set.", source.line(["catalogue"])
        ) from error
    except OSError as error:
        raise YamlError(f"{error.filename} cannot be read.", source.line(["catalogue"])) from error


def _filled(value: object, variables: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    if isinstance(value, str):
        return resolve(value, variables)
    return value
