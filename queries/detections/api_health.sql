-- title: An API fails again and again
-- owner: operations
-- lateness: 60 s
-- memory_mib: 256
-- severity: high
-- subject: api_name
-- quiet: 15 min
-- message: >-
--   {{ api_name }} failed or took five seconds or more {{ runs | grouped }} times for five requests in a row, within ten
--   minutes; {{ failed | grouped }} of {{ requests | grouped }} requests failed, {{ slow | grouped }} were slow.
--
-- Per API and ten minutes, of which one begins every minute: five requests one after another, in
-- the order in which they ended, each of which was answered with a server error (500 to 599), or
-- lasted five seconds or longer, or whose upstream failed, broke off or did not answer in time.
-- What limits, rules or the caller's own mistakes refused (400 to 499) is not asked, nor is who
-- went away before five seconds. So an API that is rarely called is found too, which error_burst
-- passes over.
--
-- Parameters: five in a row; 5 s; ten minutes.
--
-- In the access log of May 2015 nothing is found: three of its requests failed, on two days.
--
-- It holds the requests of ten minutes. For an API with more than 1,000 a second, copy it and
-- make the window shorter.
--
-- Runbook: as for error_burst. `a_failing_route` is that of the last that failed.
SELECT
    window_start,
    window_end,
    api_name,
    count(*) AS requests,
    count(*) FILTER (WHERE is_failed) AS failed,
    count(*) FILTER (WHERE latency_total_us >= 5000000) AS slow,
    count(*) FILTER (WHERE in_a_row = 5) AS runs,
    last_value(http_route ORDER BY event_time, log_partition, log_offset)
        FILTER (WHERE is_bad = 1) AS a_failing_route,
    min(upstream_name) FILTER (WHERE is_bad = 1) AS an_upstream
FROM (
    SELECT
        *,
        sum(is_bad) OVER (
            PARTITION BY window_start, api_name ORDER BY event_time, log_partition, log_offset
            ROWS BETWEEN 4 PRECEDING AND CURRENT ROW
        ) AS in_a_row
    FROM (
        SELECT
            *,
            CASE WHEN is_failed OR latency_total_us >= 5000000 THEN 1 ELSE 0 END AS is_bad
        FROM (
            SELECT
                *,
                coalesce(http_response_status_code >= 500, false)
                    OR outcome IN ('upstream_error', 'upstream_timeout', 'unavailable', 'internal_error')
                    AS is_failed
            FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
            WHERE kind = 'request' AND api_name IS NOT NULL
        )
        WHERE is_failed OR latency_total_us >= 5000000 OR http_response_status_code < 400
    )
)
GROUP BY window_start, window_end, api_name
HAVING count(*) FILTER (WHERE in_a_row = 5) > 0
