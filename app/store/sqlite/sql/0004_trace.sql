-- The span that a change arrived in, as W3C's header of that name writes it; null unless traces are kept.
-- Every delivery that it leads to goes on from there, across restarts too.

ALTER TABLE changes ADD COLUMN traceparent TEXT;
