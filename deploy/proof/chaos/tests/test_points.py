"""The list of fail points is read from the source."""

from deploy.proof.chaos.points import all_points

OF_RELIABILITY = {
    "transaction.before_commit",
    "transaction.committed",
    "relay.claimed",
    "publish.begun",
    "publish.confirmed",
    "relay.confirmed",
    "relay.marked",
    "inbox.inserted",
    "consumer.effect",
    "consumer.before_ack",
    "consumer.acked",
}
"""Before and after commit, claim, publish, confirm, mark, inbox insert, effect, ack."""


def test_the_path_of_an_event_has_its_points() -> None:
    assert all_points().keys() >= OF_RELIABILITY


def test_each_service_that_works_in_steps_has_points() -> None:
    places = all_points().values()
    for service in ("organizations", "vouchers", "payments"):
        assert any(place.startswith(f"services/{service}/") for place in places)
