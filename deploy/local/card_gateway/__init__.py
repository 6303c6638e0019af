"""The card gateway of local stacks and tests: a part of Stripe's API with Stripe Connect.

One program answers for the platform and for each connected account, which have books of their own
in one SQLite file. What it does not do is answered with 501 and a sentence, never with an invented
result. `/_test/…` and `/_pages/…` are its own: they stand for the payer's bank, the owner of an
account and Stripe itself. docs/card-gateway.md describes it.
"""
