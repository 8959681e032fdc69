-- title: An API has far more or far fewer requests than usual
-- owner: integration
-- lateness: 60 s
-- horizon: 696 h
-- memory_mib: 256
-- severity: medium
-- subject: api_name
-- quiet: 1 h
-- message: >-
--   {{ api_name }} had {{ requests | grouped }} requests within a quarter of an hour, {{ direction }} than usual:
--   {{ least | grouped }} to {{ most | grouped }}, learnt from {{ learnt_from }}.
--
-- Per API and quarter of an hour, against the same hour of the week in the four weeks before, if
-- 8 of its quarters are known; as long as they are not, against the same hour of the seven days
-- before, if 12 are. More is above the mean by 4 standard deviations, or four times the mean, and
-- always above 50 and half as many again. Fewer is below it by 4 standard deviations, or a quarter
-- of it, and always below a half of a mean of 20 or more. Against days it is 6 deviations, and
-- eight times. So one spike or outage of a month does not hide the next. A quarter with fewer
-- than 10 requests does not teach what is few: an outage is not what is usual next week.
-- Above three times the most, or below a quarter of the least, it is of high severity.
--
-- No request at all in a quarter is no row, and not found here but by silent_integration. Hours
-- are those of UTC: callers who live by summer time are an hour off for a week or four. The
-- last quarter of a replay that was broken off has fewer.
--
-- Parameters: 8 and 12 quarters; 4 and 6 deviations; 4 and 8 times; 50; 1.5 times; 20; 10 requests.
--
-- The access log of May 2015 is of less than four days: against days nothing is found in it; its
-- quarters have 74 to 136 requests, 119 in the mean.
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
        count(*) OVER week AS week_windows,
        sum(requests) OVER week AS week_total,
        sum(requests * requests) OVER week AS week_squares,
        sum(teaches) OVER week AS week_busy,
        sum(teaches * requests) OVER week AS week_busy_total,
        sum(teaches * requests * requests) OVER week AS week_busy_squares,
        count(*) OVER days AS day_windows,
        sum(requests) OVER days AS day_total,
        sum(requests * requests) OVER days AS day_squares,
        sum(teaches) OVER days AS day_busy,
        sum(teaches * requests) OVER days AS day_busy_total,
        sum(teaches * requests * requests) OVER days AS day_busy_squares
    FROM taught
    WINDOW
        week AS (
            PARTITION BY api_name, weekday, hour ORDER BY window_start
            RANGE BETWEEN INTERVAL '29 days' PRECEDING AND INTERVAL '1 day' PRECEDING
        ),
        days AS (
            PARTITION BY api_name, hour ORDER BY window_start
            RANGE BETWEEN INTERVAL '8 days' PRECEDING AND INTERVAL '12 hours' PRECEDING
        )
),
learnt AS (
    SELECT
        window_start,
        window_end,
        api_name,
        requests,
        clients,
        week_windows >= 8 AS by_week,
        CASE WHEN week_windows >= 8 THEN 4 ELSE 6 END AS deviations,
        CASE WHEN week_windows >= 8 THEN 4 ELSE 8 END AS times,
        CASE WHEN week_windows >= 8 THEN week_windows ELSE day_windows END AS windows,
        CASE WHEN week_windows >= 8 THEN week_total ELSE day_total END AS total,
        CASE WHEN week_windows >= 8 THEN week_squares ELSE day_squares END AS squares,
        CASE WHEN week_windows >= 8 THEN week_busy ELSE day_busy END AS busy,
        CASE WHEN week_windows >= 8 THEN week_busy_total ELSE day_busy_total END AS busy_total,
        CASE WHEN week_windows >= 8 THEN week_busy_squares ELSE day_busy_squares END AS busy_squares
    FROM sums
    WHERE week_windows >= 8 OR day_windows >= 12
),
ranges AS (
    SELECT
        *,
        1.0 * total / nullif(windows, 0) AS mean,
        deviations * sqrt(greatest(0.0,
            CAST(windows AS DOUBLE) * squares - CAST(total AS DOUBLE) * total)) / nullif(windows, 0) AS spread,
        1.0 * busy_total / nullif(busy, 0) AS busy_mean,
        deviations * sqrt(greatest(0.0,
            CAST(busy AS DOUBLE) * busy_squares - CAST(busy_total AS DOUBLE) * busy_total
        )) / nullif(busy, 0) AS busy_spread
    FROM learnt
),
bounds AS (
    SELECT
        *,
        CAST(greatest(50, ceil(1.5 * mean), ceil(least(mean + spread, times * mean))) AS BIGINT)
            AS most,
        CAST(CASE
            WHEN busy >= 8 AND busy_mean >= 20 THEN
                ceil(least(busy_mean / 2, greatest(busy_mean - busy_spread, busy_mean / times)))
            ELSE 0
        END AS BIGINT) AS least
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
    concat(windows, CASE WHEN by_week THEN ' quarters of this hour of the week'
        ELSE ' quarters of this hour of the days before' END) AS learnt_from,
    CASE WHEN requests > 3 * most OR 4 * requests < least THEN 'high' ELSE 'medium' END AS severity
FROM bounds
WHERE requests > most OR requests < least
