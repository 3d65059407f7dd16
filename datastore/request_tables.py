"""The tables of opt-out requests, in the catalog's file: what is kept of a request, and for how long.

Data only. No name, address, account or network address of a requester is kept: who may speak for a document is
settled by the proof, and whoever serves requests sends answers over the channel that they came by. What is kept:

- ``requests``, for as long as the store: which document, how ownership was shown, and when each step was taken. It is
  the evidence that an opt-out was asked for by someone entitled to it. A reviewer's words are kept as they were
  typed. The idempotency key and the running challenge's token are kept as SHA-256 alone, the latter until it is used.
- ``hides``, for one day: how many documents each requester asked to hide by possession of the text, under a hash
  salted afresh each day. The next day's first request overwrites salt and hashes, and nothing can join two days.
"""

from sqlalchemy import Column, Integer, MetaData, String, Table

schema = MetaData()

requests = Table(
    "requests",
    schema,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("document", String, nullable=False, index=True),
    Column("key_hash", String, nullable=False, unique=True),
    Column("body_hash", String, nullable=False),
    Column("state", String, nullable=False, index=True),  # as last stored; what follows from elsewhere is derived
    Column("method", String, nullable=False),  # of the running challenge, then of the proof; "" before
    Column("challenge_hash", String, nullable=False),  # of its token; "" where none is running
    Column("challenge_expires_at", String, nullable=False),
    Column("received_at", String, nullable=False),
    Column("changed_at", String, nullable=False),
    Column("accepted_at", String, nullable=False),  # the decision; "" before. In force is what the opt-out says
    Column("note", String, nullable=False),
)

hides = Table(
    "hides",
    schema,
    Column("requester", String, primary_key=True),  # "" has the day and its salt
    Column("n", Integer, nullable=False),
    Column("day", String, nullable=False),
    Column("salt", String, nullable=False),
)
