-- title: Traffic per API and minute
-- owner: integration
-- lateness: 60 s
--
-- Percentiles are not among its columns: `percentile_cont` over `events` has them.
-- Times are microseconds, sizes bytes.
SELECT
    window_start,
    window_end,
    api_name,
    api_version,
    count(*) AS requests,
    count(*) FILTER (WHERE http_response_status_code BETWEEN 400 AND 499) AS client_errors,
    count(*) FILTER (WHERE http_response_status_code >= 500) AS server_errors,
    count(DISTINCT client_address) AS clients,
    sum(http_request_body_size) AS request_bytes,
    sum(http_response_body_size) AS response_bytes,
    sum(latency_total_us) AS latency_sum_us,
    max(latency_total_us) AS latency_max_us,
    sum(latency_upstream_us) AS latency_upstream_sum_us
FROM TUMBLE(events, event_time, INTERVAL '1 minute')
WHERE kind = 'request'
GROUP BY window_start, window_end, api_name, api_version
