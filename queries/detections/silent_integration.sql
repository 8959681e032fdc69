-- title: An application has fallen silent
-- owner: integration
-- lateness: 60 s
-- memory_mib: 256
-- severity: medium
-- subject: app_id
-- quiet: 2 h
-- message: >-
--   {{ app_id }} did not call {{ api_name }} within an hour in which it called on {{ days | grouped }} of the seven days
--   before, {{ calls | grouped }} times in all. It called last in the hour that began at {{ last_hour }}.
--
-- Per application, API and hour of the day: it called in this hour a week ago, and in this hour of
-- four of the seven days before or more, five times in the mean or more, and did not call now. So
-- one that rests at weekends or by night is not told of then, nor one that calls now and then. It
-- is found each hour until it calls again, for three or four days; then its silence is what is usual.
-- A call that is refused is a call. Callers who are no application are one, called anybody.
--
-- An hour in which no part of Weir said anything is nobody's silence. Hours are those of UTC:
-- callers who live by summer time may be found for some days after it begins or ends.
--
-- Parameters: four days; five calls; an hour.
--
-- Runbook: ask the application's owner (`app_owner` of its events). Was its subscription or its
-- secret changed (events of kind admin)? If all are silent: is the gateway, or what stands before it?
SELECT
    window_start,
    window_end,
    caller AS app_id,
    api_name,
    days,
    calls,
    last_hour
FROM (
    SELECT
        window_start,
        window_end,
        caller,
        api_name,
        hour_of_day,
        count(DISTINCT begun) AS days,
        count(*) AS calls,
        min(begun) AS first_of_hour,
        max(begun) AS last_of_hour,
        max(max(begun)) OVER (PARTITION BY window_start, caller, api_name) AS last_hour,
        max(max(begun)) OVER (PARTITION BY window_start) AS last_of_all
    FROM (
        SELECT
            *,
            CASE WHEN kind = 'request' THEN coalesce(app_id, 'anybody') END AS caller,
            date_trunc('hour', event_time) AS begun,
            extract(hour FROM event_time) AS hour_of_day
        FROM HOP(events, event_time, INTERVAL '1 hour', INTERVAL '169 hours')
        WHERE kind = 'heartbeat' OR kind = 'request' AND api_name IS NOT NULL
    )
    GROUP BY window_start, window_end, caller, api_name, hour_of_day
)
WHERE caller IS NOT NULL
    AND hour_of_day = extract(hour FROM window_end - INTERVAL '1 hour')
    AND first_of_hour = window_start
    AND last_of_hour < window_end - INTERVAL '1 hour'
    AND last_of_all = window_end - INTERVAL '1 hour'
    AND days >= 4 AND calls >= 5 * days
