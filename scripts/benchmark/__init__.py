"""Measures the listener, and beside it what people use in its place; ``scripts/bench`` runs it.

Everything is on loopback. The program that is measured runs on one core; the load, the stand-in Slack and
this program on another. Whatever is compared takes turns in one run; of the rounds the medians count.

======================  =====================================================================
``machine``             the two cores, and what the machine is
``processes``           starts a program on its core, and reads what it has used
``changes``             changes of Port, each with a key of its own, signed
``load``, ``walk.lua``  wrk, which walks through requests that were made beforehand
``slack``               a stand-in for Slack, or for any receiver
``subjects``            the listener, and its peers with their commands and configuration
``bare``                a bare FastAPI route, in the same uvicorn
``accepting``           changes accepted a second
======================  =====================================================================
"""
