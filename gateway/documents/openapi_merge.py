"""Merges the OpenAPI documents of the services into one."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.documents.openapi_errors import components, with_gateway_errors
from gateway.routes import Access, Route, Service
from shared.openapi import DESCRIPTION

Document = dict[str, Any]

_OPERATIONS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
_REFERENCE = re.compile(r"#/components/([^/]+)/([^/]+)\Z")
_PARAMETER = re.compile(r"\{[^}]*\}")

Component = tuple[str, str]  # section and name: ("schemas", "VoucherRead")


def merge(
    documents: Mapping[Service, Document],
    find: Callable[[bytes], Route | None],
    *,
    version: str,
    incomplete: tuple[Service, ...] = (),
) -> Document:
    """Merge the services' documents, in the order given.

    A path is included if the gateway routes it to this service, so internal paths are excluded.
    Equal components with equal names are shared; if they differ, the service's name is prefixed.
    `incomplete` names the services without a document.
    """
    result: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Carnet", "version": version, "description": DESCRIPTION},
        "paths": {},
        "components": components(),
        "tags": [],
    }
    for service, document in documents.items():
        _add(result, service, _routed(service, document, find))
    if incomplete:
        result["x-incomplete"] = [service.value for service in incomplete]
    return result


def _routed(
    service: Service, document: Document, find: Callable[[bytes], Route | None]
) -> Document:
    """Return the part of a service's document that clients can reach.

    Each operation states its security itself, and has the gateway's own errors.
    """
    paths = {}
    for path, item in document.get("paths", {}).items():
        route = route_of(path, find)
        if route is not None and route.service is service:
            paths[path] = _complete(item, document.get("security"), route)
    return {**document, "paths": paths}


def route_of(template: str, find: Callable[[bytes], Route | None]) -> Route | None:
    """Return the gateway's route of a document's path, or None if it has none."""
    return find(_PARAMETER.sub("0", template).encode())


def _complete(item: Document, security: object, route: Route) -> Document:
    operations = {}
    for method in item.keys() & _OPERATIONS:
        operation = item[method] if security is None else {"security": security, **item[method]}
        requirements = operation.get("security")
        if requirements and route.access is not Access.PROTECTED:
            # The gateway requires no token here, so it is optional.
            operation = {**operation, "security": [{}, *requirements]}
        operations[method] = with_gateway_errors(operation, route)
    return {key: operations.get(key, value) for key, value in item.items()}


def _add(result: Document, service: Service, document: Document) -> None:
    components: dict[str, dict[str, Any]] = document.get("components", {})
    names = _new_names(result["components"], components, service)
    for section, members in components.items():
        target = result["components"].setdefault(section, {})
        for name, member in members.items():
            target[names.get((section, name), name)] = _rename(member, names)
    for path, item in document["paths"].items():
        result["paths"].setdefault(path, {}).update(_rename(item, names))
    names_of_tags = {tag["name"] for tag in result["tags"]}
    result["tags"] += [tag for tag in document.get("tags", ()) if tag["name"] not in names_of_tags]


def _new_names(
    existing: dict[str, dict[str, Any]], components: dict[str, dict[str, Any]], service: Service
) -> dict[Component, str]:
    """Return new names for the components of a service whose names are in use.

    Renaming one changes those that refer to it, so this repeats until nothing changes.
    """
    names: dict[Component, str] = {}
    while True:
        clashes = {
            (section, name): f"{service.value.capitalize()}{name}"
            for section, members in components.items()
            for name, member in members.items()
            if name in existing.get(section, {})
            and existing[section][name] != _rename(member, names)
        }
        if clashes.keys() <= names.keys():
            return names
        names |= clashes


def _rename(value: Any, names: Mapping[Component, str]) -> Any:
    """Return a copy of a part of a document, with references to the new names."""
    if isinstance(value, list):
        return [_rename(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _rename_entry(key, item, names) for key, item in value.items()}


def _rename_entry(key: str, item: Any, names: Mapping[Component, str]) -> Any:
    if key == "$ref" and isinstance(item, str):
        return _reference(item, names)
    if key == "mapping" and isinstance(item, dict):  # of a discriminator: its values are references
        return {
            name: _reference(target, names) if isinstance(target, str) else _rename(target, names)
            for name, target in item.items()
        }
    if key == "security" and isinstance(item, list):  # contains names of schemes, not references
        return [
            {names.get(("securitySchemes", name), name): scopes for name, scopes in need.items()}
            for need in item
        ]
    return _rename(item, names)


def _reference(target: str, names: Mapping[Component, str]) -> str:
    match = _REFERENCE.match(target)
    if match is None:
        return target
    section, name = match.groups()
    return f"#/components/{section}/{names.get((section, name), name)}"


def parse(body: bytes) -> Document:
    """Parse a service's document. Raises ValueError if it is not an OpenAPI document."""
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise ValueError("not an OpenAPI document")
    return document
