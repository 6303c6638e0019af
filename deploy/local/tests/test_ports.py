"""Ports are free, distinct, and the same again at the next start."""

import socket
from pathlib import Path

from deploy.local.ports import Ports


def test_ports_are_remembered(tmp_path: Path) -> None:
    first = Ports(tmp_path / "ports.json")
    chosen = {name: first.choose(name) for name in ("a", "b", "c")}
    again = Ports(tmp_path / "ports.json")
    assert len(set(chosen.values())) == 3
    assert {name: again.choose(name) for name in chosen} == chosen


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    port = Ports(tmp_path / "ports.json").choose("a")
    with socket.create_server(("127.0.0.1", port)):
        assert Ports(tmp_path / "ports.json").choose("a") != port


def test_a_damaged_file_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("[1, 2")
    assert Ports(tmp_path / "ports.json").choose("a") > 0
