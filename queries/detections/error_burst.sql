-- title: An API fails
-- owner: operations
-- lateness: 60 s
-- severity: high
-- subject: api_name
-- quiet: 30 min
-- message: >-
--   {{ api_name }} answered {{ failed | grouped }} of {{ requests | grouped }} requests within five minutes with a server
--   error, to {{ clients | grouped }} clients.
--
-- Per API and five minutes, of which one begins every minute: 20 requests or more, a tenth of all
-- or more, that were answered with a server error (500 to 599), or whose upstream failed, broke
-- off or did not answer in time. From a half on it is critical. Callers' own mistakes (400 to
-- 499) and what limits refuse do not count.
--
-- Parameters: 20 requests; a tenth, and a half; five minutes.
--
-- Runbook: `a_failing_route` and `an_upstream` say where to look first; `outcome` and `error_type`
-- of the events, whether the upstream answers at all. Was something applied shortly before
-- (events of kind admin)?
SELECT
    window_start,
    window_end,
    api_name,
    requests,
    failed,
    clients,
    a_failing_route,
    an_upstream,
    CASE WHEN 2 * failed >= requests THEN 'critical' ELSE 'high' END AS severity
FROM (
    SELECT
        window_start,
        window_end,
        api_name,
        count(*) AS requests,
        count(*) FILTER (WHERE is_failed) AS failed,
        count(DISTINCT client_address) FILTER (WHERE is_failed) AS clients,
        min(http_route) FILTER (WHERE is_failed) AS a_failing_route,
        min(upstream_name) FILTER (WHERE is_failed) AS an_upstream
    FROM (
        SELECT
            *,
            coalesce(http_response_status_code >= 500, false)
                OR outcome IN ('upstream_error', 'upstream_timeout', 'unavailable', 'internal_error')
                AS is_failed
        FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '5 minutes')
        WHERE kind = 'request' AND api_name IS NOT NULL
    )
    GROUP BY window_start, window_end, api_name
)
WHERE failed >= 20 AND 10 * failed >= requests
