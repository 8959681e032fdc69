-- title: An application asks for tokens again and again
-- owner: security
-- lateness: 60 s
-- horizon: 168 h
-- severity: low
-- subject: app_id
-- quiet: 2 h
-- message: >-
--   {{ app_id }} was given {{ tokens | grouped }} tokens within an hour. Expected are at most {{ tokens_limit | grouped }}:
--   {{ learnt_from }}.
--
-- Per application and hour: tokens that were issued, refreshed or exchanged. More than 60 are found
-- always, since a token lasts longer than a minute. Once 24 hours of the week before are known in
-- which it asked for any, so is what lies above their mean by 4 standard deviations and by half,
-- from 21 on. Above three times the limit it is of medium severity.
--
-- Parameters: 60 and 20 tokens; 24 hours; 4 deviations; 1.5 times; 3 times the limit.
--
-- Runbook: mostly a client that asks for a token before each call, and does not keep it for as
-- long as `expires_in` says: tell its owner. If `an_address` is none of its own, its secret is with
-- somebody else: change it. Tokens that were given are good until they expire.
WITH hours AS (
    SELECT
        window_start,
        window_end,
        app_id,
        count(*) AS tokens,
        count(DISTINCT client_address) AS addresses,
        min(client_address) AS an_address
    FROM TUMBLE(events, event_time, INTERVAL '1 hour')
    WHERE kind = 'token' AND app_id IS NOT NULL AND outcome = 'success'
        AND token_action IN ('issue', 'refresh', 'exchange')
    GROUP BY window_start, window_end, app_id
),
sums AS (
    SELECT
        *,
        count(*) OVER own AS hours,
        sum(tokens) OVER own AS total,
        sum(tokens * tokens) OVER own AS squares
    FROM hours
    WINDOW own AS (
        PARTITION BY app_id ORDER BY window_start
        RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '1 hour' PRECEDING
    )
),
ranges AS (
    SELECT
        *,
        1.0 * total / nullif(hours, 0) AS mean,
        4 * sqrt(greatest(0.0,
            CAST(hours AS DOUBLE) * squares - CAST(total AS DOUBLE) * total)) / nullif(hours, 0)
            AS spread
    FROM sums
),
limits AS (
    SELECT
        *,
        CASE
            WHEN hours >= 24 THEN
                CAST(least(60, greatest(20, ceil(mean + spread), ceil(1.5 * mean))) AS BIGINT)
            ELSE 60
        END AS tokens_limit
    FROM ranges
)
SELECT
    window_start,
    window_end,
    app_id,
    tokens,
    tokens_limit,
    addresses,
    an_address,
    CASE
        WHEN tokens_limit < 60 THEN concat('learnt from ', hours, ' hours of its own')
        ELSE 'one a minute'
    END AS learnt_from,
    CASE WHEN tokens > 3 * tokens_limit THEN 'medium' ELSE 'low' END AS severity
FROM limits
WHERE tokens > tokens_limit
