-- title: A resource answers more slowly than it used to
-- owner: integration
-- lateness: 60 s
-- horizon: 168 h
-- memory_mib: 256
-- severity: medium
-- subject: http_route
-- quiet: 30 min
-- message: >-
--   One of twenty of {{ requests | grouped }} requests to {{ http_route }} of {{ api_name }} took {{ p95_ms | grouped }} ms or longer.
--   Usual at this hour is at most {{ limit_ms | grouped }} ms, learnt from {{ windows | grouped }} times five minutes.
--
-- Per resource of an API and five minutes, against the same hour of the days of the week before that are a day
-- old or older: the 95th percentile of 20 requests or more lies above the mean of theirs by 4
-- standard deviations, by half, and by 20 ms. What is slow today is thus not what is usual
-- tomorrow morning; a job that makes each night slow is. Five minutes with fewer than 20
-- requests teach nothing. It begins once 24 times five minutes of the hour are known: after
-- two or three days. Above three times the limit it is of high severity. Hours are those of UTC.
--
-- Parameters: 20 requests; 4 deviations; 1.5 times; 20 ms; 24 times five minutes; 3 times the limit.
--
-- Runbook: if backend_time_out_of_range fires too, it is the upstream. If other resources of other
-- APIs are slow as well, it is the gateway or its network. What a request took counts until the
-- last byte: slow callers of large answers show in `http_response_body_size` of the events.
WITH times AS (
    SELECT
        window_start,
        window_end,
        api_name, http_route,
        requests,
        p95_us / 1000 AS p95_ms,
        slowest_us / 1000 AS slowest_ms,
        extract(hour FROM window_start) AS hour,
        CASE WHEN requests >= 20 THEN 1 ELSE 0 END AS teaches
    FROM TUMBLE(
        (SELECT window_start AS begun, api_name, http_route, requests, p95_us, slowest_us FROM latency_by_resource),
        begun, INTERVAL '5 minutes'
    )
),
sums AS (
    SELECT
        *,
        sum(teaches) OVER known AS windows,
        sum(teaches * p95_ms) OVER known AS total,
        sum(teaches * p95_ms * p95_ms) OVER known AS squares
    FROM times
    WINDOW known AS (
        PARTITION BY api_name, http_route, hour ORDER BY window_start
        RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '1 day' PRECEDING
    )
),
ranges AS (
    -- The sums are exact; what is made of them is of the same numbers each time.
    SELECT
        *,
        1.0 * total / nullif(windows, 0) AS mean,
        sqrt(greatest(0.0, CAST(windows AS DOUBLE) * squares - CAST(total AS DOUBLE) * total))
            / nullif(windows, 0) AS deviation
    FROM sums
    WHERE windows >= 24
),
limits AS (
    SELECT *, CAST(ceil(greatest(mean + 4 * deviation, 1.5 * mean, mean + 20)) AS BIGINT) AS limit_ms
    FROM ranges
)
SELECT
    window_start,
    window_end,
    api_name, http_route,
    requests,
    p95_ms,
    slowest_ms,
    limit_ms,
    windows,
    CASE WHEN p95_ms > 3 * limit_ms THEN 'high' ELSE 'medium' END AS severity
FROM limits
WHERE requests >= 20 AND p95_ms > limit_ms
