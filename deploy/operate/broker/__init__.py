"""The broker's users: which there are, and how a broker gets them."""
