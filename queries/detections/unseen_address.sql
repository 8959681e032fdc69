-- title: An application calls from where it never called
-- owner: security
-- lateness: 60 s
-- horizon: 744 h
-- memory_mib: 256
-- severity: medium
-- subject: app_id
-- quiet: 2 h
-- message: >-
--   {{ app_id }} was let in from where it did not call in 27 days: {{ an_address }}, one of {{ addresses | grouped }} such
--   addresses, with {{ requests | grouped }} requests within an hour.
--
-- Per application and hour, once 100 of its requests are known that are a day old or older:
-- addresses from which it was let in and from which it had no request in the 27 days before. Of
-- IPv6 the network of 32 bits is asked, since the rest changes by itself. An application that
-- came from five such addresses or more in the four days before has callers everywhere, and is
-- not told of. Three at once are of high severity.
--
-- It holds a row for each address, application and hour of 31 days: some 100,000 in its memory.
-- Leave out applications that the public uses.
--
-- Parameters: 100 requests; 27 days; five addresses in four days; three addresses.
--
-- Runbook: ask the application's owner (`app_owner`) whether it moved. If not, its credentials
-- are with somebody else: change its secret, and block the address with a deny rule.
WITH hours AS (
    SELECT
        window_start,
        window_end,
        app_id,
        place,
        count(*) AS requests,
        min(client_address) AS address,
        min(user_agent_original) AS user_agent
    FROM (
        SELECT
            *,
            CASE
                WHEN strpos(client_address, ':') = 0 THEN client_address
                ELSE concat(split_part(client_address, ':', 1), ':', split_part(client_address, ':', 2))
            END AS place
        FROM TUMBLE(events, event_time, INTERVAL '1 hour')
        WHERE kind = 'request' AND app_id IS NOT NULL AND client_address IS NOT NULL
            AND auth_outcome = 'allowed'
    )
    GROUP BY window_start, window_end, app_id, place
),
seen AS (
    SELECT
        *,
        count(*) OVER (
            PARTITION BY app_id, place ORDER BY window_start
            RANGE BETWEEN INTERVAL '27 days' PRECEDING AND INTERVAL '1 hour' PRECEDING
        ) AS hours_before,
        sum(requests) OVER (
            PARTITION BY app_id ORDER BY window_start
            RANGE BETWEEN INTERVAL '27 days' PRECEDING AND INTERVAL '1 day' PRECEDING
        ) AS requests_before
    FROM hours
),
lately AS (
    SELECT
        *,
        sum(CASE WHEN hours_before = 0 THEN 1 ELSE 0 END) OVER (
            PARTITION BY app_id ORDER BY window_start
            RANGE BETWEEN INTERVAL '4 days' PRECEDING AND INTERVAL '1 hour' PRECEDING
        ) AS new_lately
    FROM seen
)
SELECT
    window_start,
    window_end,
    app_id,
    count(*) AS addresses,
    sum(requests) AS requests,
    min(address) AS an_address,
    min(user_agent) AS a_user_agent,
    CASE WHEN count(*) >= 3 THEN 'high' ELSE 'medium' END AS severity
FROM lately
WHERE hours_before = 0 AND requests_before >= 100 AND coalesce(new_lately, 0) < 5
GROUP BY window_start, window_end, app_id
