-- title: An API has far more or far fewer requests than usual
-- owner: integration
-- lateness: 60 s
-- horizon: 672 h
-- memory_mib: 256
-- severity: medium
-- subject: api_name
-- quiet: 1 h
-- message: >-
--   {{ api_name }} had {{ requests | grouped }} requests within a quarter of an hour, {{ direction }} than usual:
--   {{ least | grouped }} to {{ most | grouped }}, learnt from {{ learnt_from }}.
--
-- Per API and quarter of an hour, against the same hour of the week in the four weeks before
-- (from two of them on), at 4 standard deviations from its mean; as long as these are not known,
-- against the week before (from a day on), at 6. More is found from 50 requests and one and a
-- half times the mean on; fewer, if they are less than half of a mean of 20 or more. A quarter
-- with fewer than 10 requests teaches nothing, so that an outage is not what is usual next week.
--
-- Nothing at all in a quarter is no row, and not found here: see silent_integration.
--
-- In the access log of May 2015 nothing is found: its quarters have 74 to 136 requests, 119 in
-- the mean.
--
-- Runbook: more of one client: client_out_of_range says of which. More of all: a campaign, or a
-- client that tries again. Fewer: look at what callers go through before us, and at error_burst.
WITH quarters AS (
    SELECT
        window_start,
        window_end,
        api_name,
        count(*) AS requests,
        count(DISTINCT client_address) AS clients
    FROM TUMBLE(events, event_time, INTERVAL '15 minutes')
    WHERE kind = 'request' AND api_name IS NOT NULL
    GROUP BY window_start, window_end, api_name
),
taught AS (
    SELECT
        *,
        extract(dow FROM window_start) AS weekday,
        extract(hour FROM window_start) AS hour,
        CASE WHEN requests >= 10 THEN 1 ELSE 0 END AS teaches
    FROM quarters
),
sums AS (
    SELECT
        *,
        sum(teaches) OVER hours AS hour_windows,
        sum(teaches * requests) OVER hours AS hour_total,
        sum(teaches * requests * requests) OVER hours AS hour_squares,
        sum(teaches) OVER lately AS late_windows,
        sum(teaches * requests) OVER lately AS late_total,
        sum(teaches * requests * requests) OVER lately AS late_squares
    FROM taught
    WINDOW
        hours AS (
            PARTITION BY api_name, weekday, hour ORDER BY window_start
            RANGE BETWEEN INTERVAL '28 days' PRECEDING AND INTERVAL '1 day' PRECEDING
        ),
        lately AS (
            PARTITION BY api_name ORDER BY window_start
            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '15 minutes' PRECEDING
        )
),
learnt AS (
    SELECT
        window_start,
        window_end,
        api_name,
        requests,
        clients,
        hour_windows >= 8 AS by_hour,
        CASE WHEN hour_windows >= 8 THEN 4 ELSE 6 END AS deviations,
        CASE WHEN hour_windows >= 8 THEN hour_windows ELSE late_windows END AS windows,
        CASE WHEN hour_windows >= 8 THEN hour_total ELSE late_total END AS total,
        CASE WHEN hour_windows >= 8 THEN hour_squares ELSE late_squares END AS squares
    FROM sums
    WHERE hour_windows >= 8 OR late_windows >= 96
),
ranges AS (
    SELECT
        *,
        1.0 * total / windows AS mean,
        deviations * sqrt(windows * squares - total * total) / windows AS spread
    FROM learnt
),
bounds AS (
    SELECT
        *,
        CAST(greatest(50, ceil(mean + spread), ceil(1.5 * mean)) AS BIGINT) AS most,
        CAST(CASE WHEN mean >= 20 THEN greatest(0, least(floor(mean - spread), mean / 2)) ELSE 0 END AS BIGINT) AS least
    FROM ranges
)
SELECT
    window_start,
    window_end,
    api_name,
    requests,
    clients,
    least,
    most,
    CASE WHEN requests > most THEN 'more' ELSE 'fewer' END AS direction,
    CASE
        WHEN by_hour THEN concat(windows, ' quarters of this hour of the week')
        ELSE concat(windows, ' quarters of the week before')
    END AS learnt_from,
    CASE WHEN requests > 3 * most OR 4 * requests < least THEN 'high' ELSE 'medium' END AS severity
FROM bounds
WHERE requests > most OR requests < least
