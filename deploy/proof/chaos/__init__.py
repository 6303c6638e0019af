"""`carnet chaos`: a whole system at work, everything that can fail made to fail, and a checker."""
