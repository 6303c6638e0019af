"""Mail: queued in the transaction of a change, sent by the worker; no word of the business.

`messages` describes a message, `queue` stores it encrypted, `rendering` and `composition` turn it
into an e-mail of the recipient's language, and `sender` hands it to the SMTP server.
"""
