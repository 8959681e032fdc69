-- title: A queue does not get through
-- owner: operations
-- lateness: 60 s
-- severity: high
-- subject: delivery_queue
-- quiet: 30 min
-- message: >-
--   {{ waiting | grouped }} messages wait in the queue {{ delivery_queue }}, {{ more | grouped }} more than half an hour
--   before.
--
-- Per queue and half an hour, of which one begins every minute: 1,000 messages or more wait, as
-- its owners said last, and no fewer than they said first. From 10,000 on it is critical. Those
-- that are scheduled for later wait too.
--
-- Runbook: `weir deliveries show` of the queue. Is its target down (events of kind delivery, by
-- their fault_code), or only slow (rate and concurrency of the queue)? Dead letters do not wait.
SELECT
    window_start,
    window_end,
    delivery_queue,
    sum(last_waiting) AS waiting,
    sum(last_waiting) - sum(first_waiting) AS more,
    count(*) AS partitions,
    CASE WHEN sum(last_waiting) >= 10000 THEN 'critical' ELSE 'high' END AS severity
FROM (
    SELECT
        window_start,
        window_end,
        delivery_queue,
        delivery_partition,
        first_value(delivery_waiting ORDER BY event_time, log_partition, log_offset)
            AS first_waiting,
        last_value(delivery_waiting ORDER BY event_time, log_partition, log_offset)
            AS last_waiting
    FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '30 minutes')
    WHERE kind = 'queue' AND delivery_waiting IS NOT NULL
    GROUP BY window_start, window_end, delivery_queue, delivery_partition
)
GROUP BY window_start, window_end, delivery_queue
HAVING sum(last_waiting) >= 1000 AND sum(last_waiting) >= sum(first_waiting)
