"""Records every event at its commit, for comparison with all other sources.

A trigger on each outbox writes in the transaction of the change, into the harness's own schema, so
that Carnet's code can neither lose nor invent a row.
"""

import asyncpg

from deploy.local.system import SERVICES

_TABLE = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.recorded (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL UNIQUE,
    service text NOT NULL,
    type text NOT NULL,
    entity_type text NOT NULL,
    entity_id bigint,
    entity_version bigint,
    organization_id bigint,
    action text NOT NULL
);
CREATE FUNCTION chaos.keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = chaos AS $$
DECLARE data jsonb := NEW.body::jsonb -> 'data';
BEGIN
    INSERT INTO recorded (event_id, service, type, entity_type, entity_id, entity_version,
                          organization_id, action)
    VALUES (NEW.event_id, TG_TABLE_SCHEMA, NEW.type, data ->> 'entity_type',
            (data ->> 'entity_id')::bigint, (data ->> 'entity_version')::bigint,
            (data ->> 'organization_id')::bigint, data ->> 'action');
    RETURN NULL;
END $$;
CREATE TABLE chaos.before AS SELECT event_id FROM audit.audit_logs;
"""
_TRIGGER = """
CREATE TRIGGER keep AFTER INSERT ON {service}.outbox FOR EACH ROW EXECUTE FUNCTION chaos.keep();
"""


async def record_everything(database_url: str) -> None:
    """Begin to record events. The system must be at rest; earlier events are not compared."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("DROP SCHEMA IF EXISTS chaos CASCADE")
            await connection.execute(_TABLE)
            for service in SERVICES:
                await connection.execute(_TRIGGER.format(service=service))
    finally:
        await connection.close()
