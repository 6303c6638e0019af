"""One OpenAPI document out of the services' five."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.documents.openapi_errors import components, with_gateway_errors
from gateway.routes import Access, Route, Service
from shared.openapi import DESCRIPTION

Document = dict[str, Any]

_OPERATIONS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_REFERENCE = re.compile(r"#/components/([^/]+)/([^/]+)\Z")
_PARAMETER = re.compile(r"\{[^}]*\}")

Component = tuple[str, str]  # its section and its name: ("schemas", "VoucherRead")


def merge(
    documents: Mapping[Service, Document],
    find: Callable[[bytes], Route | None],
    *,
    version: str,
    incomplete: tuple[Service, ...] = (),
) -> Document:
    """Merge the services' documents, in the order given.

    A path is taken when the gateway routes it to that very service, so what is internal stays
    out. Components that are called alike and look alike are shared; those that look different get
    their service's name in front. `incomplete` names services of which nothing is known.
    """
    merged: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Carnet", "version": version, "description": DESCRIPTION},
        "paths": {},
        "components": components(),
        "tags": [],
    }
    for service, document in documents.items():
        _add(merged, service, _routed(service, document, find))
    if incomplete:
        merged["x-incomplete"] = [service.value for service in incomplete]
    return merged


def _routed(
    service: Service, document: Document, find: Callable[[bytes], Route | None]
) -> Document:
    """The part of a service's document that clients can reach.

    Its security is made explicit, and the gateway's own answers are added.
    """
    paths = {}
    for path, item in document.get("paths", {}).items():
        route = route_of(path, find)
        if route is not None and route.service is service:
            paths[path] = _completed(item, document.get("security"), route)
    return {**document, "paths": paths}


def route_of(template: str, find: Callable[[bytes], Route | None]) -> Route | None:
    """The gateway's route of a document's path, None when it has none."""
    return find(_PARAMETER.sub("0", template).encode())


def _completed(item: Document, security: object, route: Route) -> Document:
    implied = {} if security is None else {"security": security}
    return {
        key: with_gateway_errors(_secured({**implied, **value}, route), route)
        if key in _OPERATIONS
        else value
        for key, value in item.items()
    }


def _secured(operation: Document, route: Route) -> Document:
    """Say that a token is optional where the gateway does not ask for one."""
    needs = operation.get("security")
    if not needs or route.access is Access.PROTECTED:
        return operation
    return {**operation, "security": [{}, *needs]}


def _add(merged: Document, service: Service, document: Document) -> None:
    components: dict[str, dict[str, Any]] = document.get("components", {})
    names = _new_names(merged["components"], components, service)
    for section, members in components.items():
        target = merged["components"].setdefault(section, {})
        for name, member in members.items():
            target[names.get((section, name), name)] = _renamed(member, names)
    for path, item in document["paths"].items():
        merged["paths"].setdefault(path, {}).update(_renamed(item, names))
    known = {tag["name"] for tag in merged["tags"]}
    merged["tags"] += [tag for tag in document.get("tags", ()) if tag["name"] not in known]


def _new_names(
    known: dict[str, dict[str, Any]], components: dict[str, dict[str, Any]], service: Service
) -> dict[Component, str]:
    """The components of a service that cannot keep their name.

    Renaming one changes the shape of those that refer to it, so this goes on until nothing moves.
    """
    names: dict[Component, str] = {}
    while True:
        clashes = {
            (section, name): f"{service.value.capitalize()}{name}"
            for section, members in components.items()
            for name, member in members.items()
            if name in known.get(section, {}) and known[section][name] != _renamed(member, names)
        }
        if clashes.keys() <= names.keys():
            return names
        names |= clashes


def _renamed(value: Any, names: Mapping[Component, str]) -> Any:
    """A copy of a part of a document with its references following the new names."""
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _renamed_entry(key, item, names) for key, item in value.items()}


def _renamed_entry(key: str, item: Any, names: Mapping[Component, str]) -> Any:
    if key == "$ref" and isinstance(item, str):
        return _reference(item, names)
    if key == "mapping" and isinstance(item, dict):  # a discriminator's, by the references' texts
        return {
            name: _reference(target, names) if isinstance(target, str) else _renamed(target, names)
            for name, target in item.items()
        }
    if key == "security" and isinstance(item, list):  # names its schemes without a reference
        return [
            {names.get(("securitySchemes", name), name): scopes for name, scopes in need.items()}
            for need in item
        ]
    return _renamed(item, names)


def _reference(target: str, names: Mapping[Component, str]) -> str:
    match = _REFERENCE.match(target)
    if match is None:
        return target
    section, name = match.groups()
    return f"#/components/{section}/{names.get((section, name), name)}"


def parse(body: bytes) -> Document:
    """A service's document from its JSON text. Raises ValueError when it is none."""
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise ValueError("not an OpenAPI document")
    return document
