"""Users, permissions, sign-in, and the keys that sign access tokens."""
