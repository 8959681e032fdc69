-- title: Answer times per upstream and five minutes
-- owner: operations
-- lateness: 60 s
--
-- The 95th percentile of what upstreams took, from the request sent to the last byte of their
-- answer, in microseconds, at most 0.4% beside the nearest rank.
SELECT
    window_start,
    window_end,
    upstream_name,
    count(*) AS requests,
    approx_percentile(latency_upstream_us, 0.95) AS p95_us,
    max(latency_upstream_us) AS slowest_us
FROM TUMBLE(events, event_time, INTERVAL '5 minutes')
WHERE kind = 'request' AND upstream_name IS NOT NULL AND latency_upstream_us IS NOT NULL
GROUP BY window_start, window_end, upstream_name
