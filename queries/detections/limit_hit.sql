-- title: An application hits its limit again and again
-- owner: integration
-- lateness: 60 s
-- severity: low
-- subject: app_id
-- quiet: 2 h
-- message: >-
--   {{ app_id }} was refused {{ throttled | grouped }} of {{ requests | grouped }} requests within an hour by its limits,
--   most lately by {{ policy }}.
--
-- Per application and hour, of which one begins every five minutes: more than 10 requests
-- that a limit of its own refused (429), by application or subscription. From a half of its
-- requests on it is of medium severity: the application does not wait when it is told to.
--
-- Parameters: 10 refusals; a half; an hour.
--
-- Runbook: a low one is a talk about a larger tier. One of medium severity mostly is a loop
-- without a pause: tell the owner (`app_owner`) of `Retry-After` before others are slowed.
SELECT
    window_start,
    window_end,
    app_id,
    requests,
    throttled,
    policy,
    an_api,
    CASE WHEN 2 * throttled >= requests THEN 'medium' ELSE 'low' END AS severity
FROM (
    SELECT
        window_start,
        window_end,
        app_id,
        count(*) AS requests,
        count(*) FILTER (WHERE is_limited) AS throttled,
        last_value(throttle_policy ORDER BY event_time, log_partition, log_offset)
            FILTER (WHERE is_limited) AS policy,
        min(api_name) FILTER (WHERE is_limited) AS an_api
    FROM (
        SELECT
            *,
            http_response_status_code = 429
                AND throttle_level IN ('application', 'subscription') AS is_limited
        FROM HOP(events, event_time, INTERVAL '5 minutes', INTERVAL '1 hour')
        WHERE kind = 'request' AND app_id IS NOT NULL
    )
    GROUP BY window_start, window_end, app_id
)
WHERE throttled > 10
