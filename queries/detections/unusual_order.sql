-- title: An application asks for resources in an order of its own
-- owner: security
-- lateness: 60 s
-- horizon: 168 h
-- memory_mib: 256
-- severity: medium
-- subject: app_id
-- quiet: 1 h
-- message: >-
--   {{ app_id }} went through {{ api_name }} in an unusual order within ten minutes: {{ unusual | grouped }} of
--   {{ steps | grouped }} steps were hardly ever seen in the week before, such as from {{ a_before }} to {{ a_route }}.
--
-- Per application, API and ten minutes, against the week before, once 500 of its steps are known:
-- a step from one resource to the next is unusual if the first was left 50 times or more and fewer
-- than one of 200 of these led to the second. Five unusual steps, a tenth of all, are found.
--
-- A resource that nobody left 50 times says nothing, so that a new part of an API is no finding
-- in its first days.
--
-- Runbook: see the requests of `a_client` in their order. A new release of the client looks like
-- this once; somebody who reads the resources one by one, or with steps left out, does not stop.
WITH steps AS (
    SELECT
        window_start,
        window_end,
        app_id,
        api_name,
        before,
        http_route,
        steps,
        a_client
    FROM TUMBLE(
        (SELECT window_start AS begun, * EXCLUDE (window_start, window_end) FROM resource_steps),
        begun, INTERVAL '10 minutes'
    )
),
known AS (
    SELECT
        *,
        sum(steps) OVER (
            PARTITION BY app_id, api_name ORDER BY window_start
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '10 minutes' PRECEDING
        ) AS known_steps,
        sum(steps) OVER (
            PARTITION BY app_id, api_name, before ORDER BY window_start
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '10 minutes' PRECEDING
        ) AS known_leaving,
        sum(steps) OVER (
            PARTITION BY app_id, api_name, before, http_route ORDER BY window_start
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '10 minutes' PRECEDING
        ) AS known_same
    FROM steps
),
told AS (
    SELECT
        *,
        known_steps >= 500 AND known_leaving >= 50 AND 200 * coalesce(known_same, 0) < known_leaving
            AS is_unusual
    FROM known
)
SELECT
    window_start,
    window_end,
    app_id,
    api_name,
    sum(steps) AS steps,
    sum(steps) FILTER (WHERE is_unusual) AS unusual,
    min(before) FILTER (WHERE is_unusual) AS a_before,
    min(http_route) FILTER (WHERE is_unusual) AS a_route,
    min(a_client) FILTER (WHERE is_unusual) AS a_client
FROM told
GROUP BY window_start, window_end, app_id, api_name
HAVING sum(steps) FILTER (WHERE is_unusual) >= 5
    AND 10 * sum(steps) FILTER (WHERE is_unusual) >= sum(steps)
