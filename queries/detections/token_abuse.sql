-- title: An application asks for tokens again and again
-- owner: security
-- lateness: 60 s
-- horizon: 168 h
-- severity: low
-- subject: app_id
-- quiet: 2 h
-- message: >-
--   {{ app_id }} was given {{ tokens | grouped }} tokens within an hour, from {{ addresses | grouped }} addresses.
--   Usual is at most {{ tokens_limit | grouped }}, learnt from {{ learnt_from }}.
--
-- Per application and hour: tokens that were issued, refreshed or exchanged, against its own week
-- before at 4 standard deviations above the mean, if 24 of its hours are known, and 20 at least;
-- as long as they are not, 60. From three times the limit on it is of medium severity.
--
-- Runbook: mostly a client that asks for a token before each call, and does not keep it for as
-- long as `expires_in` says: tell its owner. From addresses that are not its own, or by night, its
-- secret is with somebody else: change it.
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
        CASE
            WHEN hours >= 24 THEN
                greatest(20, ceil((total + 4 * sqrt(hours * squares - total * total)) / hours))
            ELSE 60
        END AS tokens_range
    FROM sums
)
SELECT
    window_start,
    window_end,
    app_id,
    tokens,
    CAST(tokens_range AS BIGINT) AS tokens_limit,
    addresses,
    an_address,
    CASE WHEN hours >= 24 THEN concat(hours, ' hours of its own') ELSE 'nothing yet' END
        AS learnt_from,
    CASE WHEN tokens > 3 * tokens_range THEN 'medium' ELSE 'low' END AS severity
FROM ranges
WHERE tokens > tokens_range
