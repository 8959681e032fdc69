-- title: Somebody asks for resources in an order of their own
-- owner: security
-- lateness: 60 s
-- horizon: 168 h
-- memory_mib: 256
-- severity: medium
-- subject: client_address
-- quiet: 1 h
-- message: >-
--   {{ client_address }} went through {{ api_name }} by {{ app_id }} in an unusual order: {{ unusual | grouped }} of its
--   {{ steps | grouped }} steps within ten minutes are hardly ever taken, such as {{ a_step }}.
--
-- Per caller (an address of an application), API and ten minutes, against the steps of all callers
-- of the application in the week before that are a day old or older, once 500 of them are known:
-- a step from one resource to the next is unusual if the first was left 50 times or more and fewer
-- than one of 200 of these led to the second. Five unusual steps, a tenth of the caller's, are
-- found. What somebody does today is thus not what is usual today, however often it is done.
--
-- A resource that nobody left 50 times says nothing, so that a new part of an API is no finding
-- in its first days.
--
-- Parameters: 500 and 50 steps; one of 200; five steps; a tenth.
--
-- Runbook: see the requests of the address in their order. A new release of the client looks like
-- this for a day; somebody who reads the resources one by one, or with steps left out, does not stop.
WITH steps AS (
    SELECT
        window_start,
        window_end,
        app_id,
        api_name,
        client_address,
        before,
        http_route,
        steps
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
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '1 day' PRECEDING
        ) AS known_steps,
        sum(steps) OVER (
            PARTITION BY app_id, api_name, before ORDER BY window_start
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '1 day' PRECEDING
        ) AS known_leaving,
        sum(steps) OVER (
            PARTITION BY app_id, api_name, before, http_route ORDER BY window_start
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '1 day' PRECEDING
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
    client_address,
    app_id,
    api_name,
    sum(steps) AS steps,
    sum(steps) FILTER (WHERE is_unusual) AS unusual,
    min(concat('from ', before, ' to ', http_route)) FILTER (WHERE is_unusual) AS a_step
FROM told
GROUP BY window_start, window_end, app_id, api_name, client_address
HAVING sum(steps) FILTER (WHERE is_unusual) >= 5
    AND 10 * sum(steps) FILTER (WHERE is_unusual) >= sum(steps)
