"""What `Accept` means, by RFC 9110, section 12.5.1."""

import pytest

from services.payments.endpoints.negotiation import preferred

JSON, PDF = "application/json", "application/pdf"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], JSON),
        (["*/*"], JSON),
        (["application/*"], JSON),
        ([PDF], PDF),
        (["Application/PDF"], PDF),
        (["application/json;q=0, application/pdf"], PDF),
        (["application/pdf;q=0.1, application/json"], JSON),
        (["application/json;q=0.5, application/pdf"], PDF),
        (["application/json ; Q=0.5 , application/pdf;q=0.6"], PDF),
        (["text/html", "application/pdf"], PDF),
        (["application/json;q=0.2", "application/pdf;q=0.3"], PDF),
        (["*/*;q=0.1, application/pdf"], PDF),
        (["application/json;q=0, */*"], PDF),
        (["application/json;q=0, application/*;q=0.5"], PDF),
        (["application/pdf, */*"], PDF),
        (["application/pdf, application/json"], PDF),
        (["text/html, application/xhtml+xml, */*;q=0.8"], JSON),
        (["application/json; charset=utf-8"], JSON),
        (["application/pdf;q=high, application/json;q=0.9"], PDF),
        (["text/html"], None),
        (["application/json;q=0"], None),
        (["*/*;q=0"], None),
        (["*/*;q=0.000"], None),
        ([""], JSON),
        ([" ", ","], JSON),
        (["", PDF], PDF),
        ([",;,"], None),
        ([",;,q=1,/"], None),
    ],
)
def test_what_is_preferred(accept: list[str], expected: str | None) -> None:
    assert preferred(accept, (JSON, PDF)) == expected
