"""`make bench-elastic`: gray release and elastic scaling on three machines under load; writes its section of the page.

A module for each kind of row, each with one ``measure(session)`` that yields its rows, as in ``tools/bench_cluster``,
whose machines and command it shares.
"""
