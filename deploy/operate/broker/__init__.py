"""The broker's users and the commands that create them."""
