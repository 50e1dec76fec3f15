"""Language models that are asked, of any kind, and everything about asking: nothing is lost, nothing is paid twice.

A `Teacher` (base) says who is asked. `collect` asks for what has no answer yet, in a pool of Ray Data's actors, and
keeps every response in a `Ledger` as it comes; `bill` and `spending` count what it costs. Curation measures difficulty
and finds domains with it, and traces are written with it.
"""
