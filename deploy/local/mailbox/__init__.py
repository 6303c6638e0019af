"""The mailbox of local stacks: an SMTP server that delivers nothing, and a page of messages."""
