"""Keys with which services and gateway sign their calls: EC P-256, as JSON Web Keys.

They are created with the standard library, for machines that have only Docker and Python. This
module computes the public point of a random number (SEC 1, 2.2.1 and 3.2.1); the services sign
with a library.
"""

import base64
import secrets

Point = tuple[int, int]

# NIST SP 800-186, 3.2.1.3: the curve y² = x³ − 3x + b over the field of P, and its base point.
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE: Point = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def private_key(name: str) -> dict[str, str]:
    """Return a new private JWK whose `kid` is the signer's name."""
    number = 1 + secrets.randbelow(ORDER - 1)
    x, y = public_point(number)
    names = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": name}
    return names | {"x": _text(x), "y": _text(y), "d": _text(number)}


def public_key(private: dict[str, str]) -> dict[str, str]:
    """Return the public part of a private JWK."""
    return {name: value for name, value in private.items() if name != "d"}


def public_point(number: int) -> Point:
    """Return `number` times the base point, for 0 < number < ORDER, by doubling and adding."""
    total: Point | None = None
    step = BASE
    while number:
        if number & 1:
            total = step if total is None else _add(total, step)
        step = _add(step, step)
        number >>= 1
    if total is None:
        raise ValueError("zero has no public point")
    return total


def _add(one: Point, other: Point) -> Point:
    """Add two points that are equal or differ in x. No others occur below the curve's order."""
    (x1, y1), (x2, y2) = one, other
    if one == other:
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, P)
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def _text(number: int) -> str:
    """Encode a coordinate by RFC 7518, 6.2.1.2: 32 bytes, base64url without padding."""
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()
