-- title: An application has fallen silent
-- owner: integration
-- lateness: 60 s
-- memory_mib: 256
-- severity: medium
-- subject: integration
-- quiet: 2 h
-- message: >-
--   {{ app_id }} did not call {{ api_name }} within an hour in which it called on {{ days | grouped }} of the seven days
--   before, and a week ago. It called last in the hour that began at {{ last_hour }}.
--
-- Per application, API and hour of the day: it called in this hour a week ago, and in this hour of
-- four of the seven days before or more, and did not call now. So one that rests at weekends
-- or by night is not told of then. It is found each hour until it calls again. An hour in which
-- nobody called anything is nobody's silence.
--
-- Runbook: ask the application's owner (`app_owner` of its events). Was its subscription or its
-- secret changed (events of kind admin), or is it refused before it is known (kind refusal)?
SELECT
    window_start,
    window_end,
    concat(app_id, ' to ', api_name) AS integration,
    app_id,
    api_name,
    days,
    calls,
    last_hour
FROM (
    SELECT
        window_start,
        window_end,
        app_id,
        api_name,
        hour_of_day,
        max(max(begun)) OVER (PARTITION BY window_start) AS last_of_all,
        count(*) AS days,
        sum(calls) AS calls,
        min(begun) AS first_hour,
        max(begun) AS last_hour
    FROM (
        SELECT *, extract(hour FROM begun) AS hour_of_day
        FROM HOP(
            (SELECT window_start AS begun, app_id, api_name, calls FROM calls_by_application_hour),
            begun, INTERVAL '1 hour', INTERVAL '169 hours'
        )
    )
    GROUP BY window_start, window_end, app_id, api_name, hour_of_day
)
WHERE hour_of_day = extract(hour FROM window_end - INTERVAL '1 hour')
    AND first_hour = window_start
    AND last_hour < window_end - INTERVAL '1 hour'
    AND last_of_all = window_end - INTERVAL '1 hour'
    AND days >= 4
