-- title: Response times per API, resource and five minutes
-- owner: integration
-- lateness: 60 s
--
-- The 95th percentile of what requests took, in microseconds, at most 0.4% beside the nearest
-- rank. What a limit or a rule refused says nothing of the API, and does not count.
SELECT
    window_start,
    window_end,
    api_name,
    http_route,
    count(*) AS requests,
    approx_percentile(latency_total_us, 0.95) AS p95_us,
    max(latency_total_us) AS slowest_us
FROM TUMBLE(events, event_time, INTERVAL '5 minutes')
WHERE kind = 'request' AND api_name IS NOT NULL AND latency_total_us IS NOT NULL
    AND outcome IN ('success', 'client_error', 'client_closed', 'upstream_error', 'upstream_timeout')
GROUP BY window_start, window_end, api_name, http_route
