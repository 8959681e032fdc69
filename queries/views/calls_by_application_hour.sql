-- title: Calls per application, API and hour
-- owner: integration
-- lateness: 60 s
SELECT
    window_start,
    window_end,
    app_id,
    api_name,
    count(*) AS calls,
    count(*) FILTER (WHERE http_response_status_code >= 400) AS failed
FROM TUMBLE(events, event_time, INTERVAL '1 hour')
WHERE kind = 'request' AND app_id IS NOT NULL AND api_name IS NOT NULL
GROUP BY window_start, window_end, app_id, api_name
