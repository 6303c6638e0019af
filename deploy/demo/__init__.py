"""`carnet demo`: the story of one purchase, told to a running system as an API client would."""
