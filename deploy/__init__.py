"""What operators and developers use around the services: the `carnet` command and its parts.

local     `make run`: servers and processes on one machine
docker    Docker Compose: images, secrets, the broker's users
operate   commands for a running system: audit, broker, dead letters, keys
checks    checks of the code: event shapes, migrations
upgrade   the upgrade from version 1
demo      the story of one purchase; api_client.py is its client, which tests and measurements share
bench, chaos, rehearsal   proofs: speed, failures, the upgrade with a copy of version 1
tests     tests of several services together, in `tests/stack` of the whole running system
"""
