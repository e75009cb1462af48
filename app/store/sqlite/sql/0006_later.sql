-- What is to be told later of an incident, so that it is found without what waits now or was told.
CREATE INDEX later_deliveries ON deliveries (incident_id)
    WHERE state = 'pending' AND (due_at > 0 OR repeat_after IS NOT NULL);
