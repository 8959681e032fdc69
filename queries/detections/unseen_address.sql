-- title: An application calls from where it never called
-- owner: security
-- lateness: 60 s
-- horizon: 744 h
-- memory_mib: 256
-- severity: medium
-- subject: app_id
-- quiet: 2 h
-- message: >-
--   {{ app_id }} was let in from {{ addresses | grouped }} addresses from which it did not call in 30 days, such as
--   {{ an_address }}, with {{ requests | grouped }} requests within an hour.
--
-- Per application and hour, once 100 of its requests are known, a day old or older: addresses from
-- which it was let in and from which it had no request in the 30 days before. An application that
-- came from five such addresses or more in the day before has callers everywhere, and is not
-- told of.
--
-- Runbook: ask the application's owner (`app_owner`) whether it moved. If not, its credentials
-- are with somebody else: change its secret, and block the address with a deny rule.
WITH hours AS (
    SELECT
        window_start,
        window_end,
        app_id,
        client_address,
        count(*) AS requests,
        min(user_agent_original) AS user_agent
    FROM TUMBLE(events, event_time, INTERVAL '1 hour')
    WHERE kind = 'request' AND app_id IS NOT NULL AND client_address IS NOT NULL
        AND auth_outcome = 'allowed'
    GROUP BY window_start, window_end, app_id, client_address
),
seen AS (
    SELECT
        *,
        count(*) OVER (
            PARTITION BY app_id, client_address ORDER BY window_start
            RANGE BETWEEN INTERVAL '30 days' PRECEDING AND INTERVAL '1 hour' PRECEDING
        ) AS hours_before,
        sum(requests) OVER (
            PARTITION BY app_id ORDER BY window_start
            RANGE BETWEEN INTERVAL '30 days' PRECEDING AND INTERVAL '1 day' PRECEDING
        ) AS requests_before
    FROM hours
),
lately AS (
    SELECT
        *,
        sum(CASE WHEN hours_before = 0 THEN 1 ELSE 0 END) OVER (
            PARTITION BY app_id ORDER BY window_start
            RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 hour' PRECEDING
        ) AS new_lately
    FROM seen
)
SELECT
    window_start,
    window_end,
    app_id,
    count(*) AS addresses,
    sum(requests) AS requests,
    min(client_address) AS an_address,
    min(user_agent) AS a_user_agent,
    CASE WHEN count(*) >= 3 THEN 'high' ELSE 'medium' END AS severity
FROM lately
WHERE hours_before = 0 AND requests_before >= 100 AND coalesce(new_lately, 0) < 5
GROUP BY window_start, window_end, app_id
