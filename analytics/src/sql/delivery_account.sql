-- The account of each queue: accepted = delivered + waiting + dead, of all times and timelines.
--
-- What was accepted, delivered and dead is told by the events of single messages, what waits by
-- the offsets of the log; so a message that was lost between the two shows as a difference.
--
-- A message is accepted by its event of that, or, if its mediator was killed before it could
-- write that one, by its first attempt. One that was delivered by an owner that was killed
-- before it could commit that, and then died, was delivered. One that was put back from the
-- dead letters, or was sent again, is in the queue again, behind the place where it ended; one
-- that was scheduled after that waits for its time.
WITH messages AS (
  SELECT delivery_queue, messaging_message_id,
    coalesce(
      max(delivery_sequence) FILTER (WHERE kind = 'delivery' AND delivery_outcome = 'delivered')
        = max(delivery_sequence), false
    ) AS delivered,
    coalesce(
      max(delivery_sequence) FILTER (WHERE kind = 'dead_letter') = max(delivery_sequence), false
    ) AS dead,
    coalesce(
      max(delivery_accepted_time) FILTER (WHERE delivery_outcome = 'scheduled')
        > max(event_time) FILTER (WHERE delivery_outcome IS DISTINCT FROM 'scheduled'),
      false
    ) AS scheduled,
    max(event_time) AS last
  FROM events
  WHERE kind IN ('accept', 'delivery', 'dead_letter') AND delivery_queue IS NOT NULL
  GROUP BY delivery_queue, messaging_message_id
),
counts AS (
  SELECT delivery_queue AS queue,
    count(*) AS accepted,
    count(*) FILTER (WHERE delivered AND NOT scheduled) AS delivered,
    count(*) FILTER (WHERE dead AND NOT delivered AND NOT scheduled) AS dead,
    max(last) AS last
  FROM messages
  GROUP BY delivery_queue
),
partitions AS (
  SELECT delivery_queue AS queue, delivery_partition,
    last_value(delivery_waiting ORDER BY delivery_owner_epoch, event_time) AS waiting
  FROM events WHERE kind = 'queue'
  GROUP BY delivery_queue, delivery_partition
),
log AS (SELECT queue, sum(waiting) AS waiting FROM partitions GROUP BY queue)
SELECT counts.queue, accepted, delivered, waiting, dead,
  CASE
    WHEN waiting IS NULL THEN 'not told yet'
    WHEN accepted = delivered + waiting + dead THEN 'holds'
    WHEN last > now() - INTERVAL '10 seconds' THEN 'in motion'
    ELSE concat('off by ', accepted - delivered - waiting - dead)
  END AS identity
FROM counts LEFT JOIN log ON log.queue = counts.queue
