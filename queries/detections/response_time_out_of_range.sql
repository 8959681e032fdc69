-- title: A resource answers more slowly than it used to
-- owner: integration
-- lateness: 60 s
-- horizon: 168 h
-- memory_mib: 256
-- severity: medium
-- subject: http_route
-- quiet: 30 min
-- message: >-
--   {{ http_route }} of {{ api_name }} took {{ p95_ms | grouped }} ms or more for one of twenty requests, of {{ requests | grouped }} in five minutes.
--   Usual is at most {{ limit_ms | grouped }} ms, learnt from {{ windows | grouped }} times five minutes.
--
-- Per resource of an API and five minutes, against the week before: the 95th percentile of ten requests or
-- more is above the mean of those of the week by 4 standard deviations, by half, and by 20 ms.
-- Five minutes with fewer than ten requests teach nothing, and nothing is found before three
-- hours (36 times five minutes) are known. From three times the limit on it is of high severity.
--
-- Runbook: is it the upstream (`backend_time_out_of_range` fires too, or `latency_upstream_us` of
-- the events is most of `latency_total_us`), or the gateway (other resources are slow as well)?
WITH times AS (
    SELECT
        window_start,
        window_end,
        api_name, http_route,
        requests,
        p95_us / 1000 AS p95_ms,
        slowest_us / 1000 AS slowest_ms,
        CASE WHEN requests >= 10 THEN 1 ELSE 0 END AS teaches
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
        PARTITION BY api_name, http_route ORDER BY window_start
        RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '5 minutes' PRECEDING
    )
),
ranges AS (
    -- windows * squares - square of the total is windows squared times the variance, in whole
    -- numbers, so that the root is of the same number each time.
    SELECT
        *,
        greatest(
            ceil((total + 4 * sqrt(windows * squares - total * total)) / windows),
            ceil(1.5 * total / windows),
            ceil(1.0 * total / windows) + 20
        ) AS range_ms
    FROM sums
    WHERE windows >= 36
)
SELECT
    window_start,
    window_end,
    api_name, http_route,
    requests,
    p95_ms,
    slowest_ms,
    CAST(range_ms AS BIGINT) AS limit_ms,
    windows,
    CASE WHEN p95_ms > 3 * range_ms THEN 'high' ELSE 'medium' END AS severity
FROM ranges
WHERE requests >= 10 AND p95_ms > range_ms
