"""Measures the listener, and beside it what people use in its place; ``scripts/bench`` runs it.

Everything is on loopback. The program that is measured runs on one core; the load, the stand-in Slack and
this program on another. Whatever is compared takes turns in one run; of the rounds the medians count.

======================  =====================================================================
``machine``             the two cores, and what the machine is
``processes``           starts a program on its core, and reads what it has used
``changes``             changes of Port, each with a key of its own, signed
``load``, ``walk.lua``  wrk, which walks through requests that were made beforehand
``pace``                a sender of constant rate, for answer times
``slack``               a stand-in for Slack, or for any receiver
``seed``                fills a store with a million changes
----------------------  ---------------------------------------------------------------------
``subjects``            what is measured, as the measurements see it
``listeners``           the listener: SQLite or PostgreSQL, few rules or many, empty or full
``peers``               Alertmanager, adnanh/webhook, and the two below
``bare``, ``tutorial``  a bare FastAPI route, and a listener as Port's tutorial has it
``built``, ``teams/``   what a team would build: FastAPI with a queue, Node-RED
----------------------  ---------------------------------------------------------------------
``accepting``           changes accepted a second
``counting``            instructions of a change, by valgrind
``answering``           how soon Port has its answer, and Slack its message
``delivering``          HTTP deliveries a second
``holding``             memory, and the time to start
``whole``               all of these with their goals; a further section is one more of `SECTIONS`
``table``, ``report``   the tables, and where they stand in docs/bench.md
----------------------  ---------------------------------------------------------------------
``beside``              the peers: what they accept, cost and lose
``against``             the working tree beside another commit
``profile``             a flame graph
``page``                how long each page takes with a million changes
``replicas``            one, two and four replicas on PostgreSQL
======================  =====================================================================
"""
