"""The JSON Schema of every event: its envelope, its row's columns, its details."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

from deploy.checks.event_shapes.json_types import nullable, properties_of, required_of, schema_of
from deploy.local.system import SERVICES
from shared.change_events import audited_columns
from shared.changes import Catalogue
from shared.db import Entity
from shared.shapes import Kind, Schema, Shape, Shapes, change

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Publisher:
    """The events of a service as its code defines them."""

    service: str
    catalogue: Catalogue
    shapes: Shapes
    models: dict[str, type[Entity]]

    @classmethod
    def of(cls, service: str) -> "Publisher":
        """Read a service's catalogue, declarations and models."""
        events = import_module(f"services.{service}.events")
        models = import_module(f"services.{service}.models")
        mappers = models.Base.registry.mappers
        entities = [mapper.class_ for mapper in mappers if issubclass(mapper.class_, Entity)]
        by_type = {entity.entity_type: entity for entity in entities}
        return cls(service, events.CATALOGUE, events.SHAPES, by_type)

    def schemas(self) -> dict[str, Schema]:
        """Return the schemas by event type. Raises ValueError for a wrong catalogue."""
        if unknown := set(self.shapes) - set(self.catalogue.values()):
            raise ValueError(f"{self.service} declares shapes of no event: {sorted(unknown)}")
        return {
            kind: self._schema(kind, entity_type, action)
            for (entity_type, action), kind in self.catalogue.items()
        }

    def _schema(self, kind: str, entity_type: str, action: str) -> Schema:
        shape = self.shapes.get(kind, change())
        model = self.models.get(entity_type)
        if model is None and shape.kind is not Kind.FACT:
            raise ValueError(f"{kind} is of {entity_type}, which is no audited model")
        columns = columns_of(model) if model is not None else {}
        return {
            "$schema": DIALECT,
            "$id": f"urn:carnet:event:{kind}",
            "title": kind,
            "description": f"{action} of {entity_type} ({shape.kind})",
            **_object(
                {
                    "specversion": {"const": "1.0"},
                    "id": {"type": "string", "format": "uuid"},
                    "source": {"const": f"carnet/{self.service}"},
                    "type": {"const": kind},
                    "time": {"type": "string", "format": "date-time"},
                    "subject": {"type": "string", "pattern": f"^{entity_type}/"},
                    "datacontenttype": {"const": "application/json"},
                    "data": _data(entity_type, action, shape, columns),
                }
            ),
        }


def all_schemas() -> dict[str, dict[str, Schema]]:
    """Return every service's schemas: service → event type → schema."""
    return {service: Publisher.of(service).schemas() for service in SERVICES}


def columns_of(model: type[Entity]) -> dict[str, Schema]:
    """Return the schemas of the columns that a model's events may contain."""
    hints = get_type_hints(model, include_extras=True)
    return {name: schema_of(get_args(hints[name])[0]) for name in audited_columns(model)}


def _data(
    entity_type: str, action: str, shape: Shape, columns: dict[str, Schema]
) -> dict[str, Any]:
    new_columns = {} if shape.kind is Kind.FACT else columns
    details = properties_of(shape.details) if shape.details else {}
    promised_details = required_of(shape.details) if shape.details else []
    required = dict.fromkeys([*(columns if shape.kind is Kind.NEW_ROW else ()), *promised_details])
    integer: Schema = {"type": "integer"}
    text: Schema = {"type": "string"}
    return _object(
        {
            "action": {"const": action},
            "entity_type": {"const": entity_type},
            "entity_id": nullable(integer) if shape.kind is Kind.FACT else integer,
            "entity_version": {"type": "integer", "minimum": 0},
            "organization_id": nullable(integer),
            "actor": _object(
                {
                    "user_id": nullable(integer),
                    "role": text,
                    "ip_address": nullable(text),
                    "user_agent": nullable(text),
                }
            ),
            "correlation_id": text,
            "causation_id": nullable(text),
            "old_values": (
                _object({})
                if shape.kind in (Kind.NEW_ROW, Kind.FACT)
                else _object(columns, columns if shape.kind is Kind.REMOVAL else ())
            ),
            "new_values": _object({**new_columns, **details}, required),
        }
    )


def _object(properties: dict[str, Schema], required: Iterable[str] | None = None) -> Schema:
    """Return an object's schema. It allows other properties, which readers ignore."""
    names = properties if required is None else required
    return {"type": "object", "properties": properties, "required": list(names)}
