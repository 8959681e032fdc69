-- title: Which resource follows which
-- owner: security
-- lateness: 60 s
-- memory_mib: 256
--
-- Per application, API, caller and ten minutes: how often a caller that had just asked for `before`
-- asked for `http_route` next. A caller is an address of an application; its first request of
-- the ten minutes follows none.
SELECT
    window_start,
    window_end,
    app_id,
    api_name,
    client_address,
    before,
    http_route,
    count(*) AS steps
FROM (
    SELECT
        window_start,
        window_end,
        app_id,
        api_name,
        http_route,
        client_address,
        lag(http_route) OVER (
            PARTITION BY window_start, app_id, api_name, client_address
            ORDER BY event_time, log_partition, log_offset
        ) AS before
    FROM TUMBLE(events, event_time, INTERVAL '10 minutes')
    WHERE kind = 'request' AND app_id IS NOT NULL AND http_route IS NOT NULL
)
WHERE before IS NOT NULL
GROUP BY window_start, window_end, app_id, api_name, client_address, before, http_route
