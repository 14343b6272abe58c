"""PostgreSQL as the store: what several servers share.

It keeps the promises of the embedded store by the same means. All servers take turns at writing: a
lock in the database goes with each transaction, so that writes see one another as if there were
one writer, ids and times ascend in the order of commits, and counters never wait for each other
the wrong way round. Each server writes what has gathered meanwhile in one transaction.

`database.py` is the store itself, `transactions.py` how it writes, `listener.py` how it hears of
the other servers, `connection.py` how it speaks to PostgreSQL, `schema.py` the tables.
"""
