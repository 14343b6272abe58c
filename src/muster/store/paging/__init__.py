"""Where the page of a list lies, at any depth and without sorting what it does not show.

Four ways lead to a page, each to the ids of its rows in their order; `pages.py` chooses:

- In id order (which is the order of creation) and by status, counters of blocks of ids say where
  the page begins, and at most one block is walked: `id_order.py`.
- By any other key, through the index of that key from its nearer end: `key_order.py`.
- Where that is far, over counts of what stands before each stretch of that index: `ranked.py`.
- Where few rows match, they are all gathered and sorted: `gathering.py`.

`scope.py` says which rows a list is about, `totals.py` how many there are. Every statement names
its index: left to itself, the planner sorts everything where a filter looks rare. It is put
together from constant fragments; every value is bound.
"""
