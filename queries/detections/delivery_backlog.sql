-- title: A queue does not get through
-- owner: operations
-- lateness: 60 s
-- severity: high
-- subject: delivery_queue
-- quiet: 30 min
-- message: >-
--   {{ waiting | grouped }} messages wait in the queue {{ delivery_queue }}, {{ more | grouped }} more than half an hour
--   before, and never fewer than {{ fewest | grouped }} meanwhile.
--
-- Per queue and half an hour, of which one begins every minute: 1,000 messages or more waited all
-- the time, as its owners say each minute, and no fewer at its end than at its beginning. So
-- a batch that is worked off is not told of. From 10,000 on it is critical. Messages that are
-- scheduled for later wait too.
--
-- Parameters: 1,000 and 10,000 messages; half an hour.
--
-- Runbook: `weir deliveries queues` has its rates and limits. Is its target down (events of kind
-- delivery, by their `fault_code`), or only slow? Dead letters do not wait.
SELECT
    window_start,
    window_end,
    delivery_queue,
    sum(last_waiting) AS waiting,
    sum(last_waiting) - sum(first_waiting) AS more,
    sum(fewest_waiting) AS fewest,
    count(*) AS partitions,
    CASE WHEN sum(last_waiting) >= 10000 THEN 'critical' ELSE 'high' END AS severity
FROM (
    SELECT
        window_start,
        window_end,
        delivery_queue,
        delivery_partition,
        min(event_time) AS first_told,
        min(delivery_waiting) AS fewest_waiting,
        first_value(delivery_waiting ORDER BY event_time, log_partition, log_offset)
            AS first_waiting,
        last_value(delivery_waiting ORDER BY event_time, log_partition, log_offset)
            AS last_waiting
    FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '30 minutes')
    WHERE kind = 'queue' AND delivery_waiting IS NOT NULL
    GROUP BY window_start, window_end, delivery_queue, delivery_partition
)
-- Of half an hour that was told of from its beginning on.
WHERE first_told < window_start + INTERVAL '3 minutes'
GROUP BY window_start, window_end, delivery_queue
HAVING sum(fewest_waiting) >= 1000 AND sum(last_waiting) >= sum(first_waiting)
