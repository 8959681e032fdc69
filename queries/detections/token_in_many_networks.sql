-- title: A token is used from several networks at once
-- owner: security
-- lateness: 60 s
-- severity: high
-- subject: app_id
-- quiet: 1 h
-- message: >-
--   A token of {{ app_id }} was used from {{ networks | grouped }} networks within ten minutes, such as {{ an_address }}
--   and {{ another_address }}.
--
-- Per token and ten minutes, of which one begins every minute: three networks or more (the first
-- 16 bits of an IPv4 address, the first 32 of another) from which the same token was let in. A
-- telephone changes its network once on the way; nobody is in three places within ten minutes.
-- How far they are from each other is not asked: Weir knows no places of addresses.
--
-- Runbook: the token is with somebody else. Change the application's secret, and block the
-- addresses that are not its own. A client that shares one token among its servers in several
-- networks looks like this too: copy the file, and leave it out by its `app_id`.
SELECT
    window_start,
    window_end,
    app_id,
    auth_token_id,
    requests,
    networks,
    an_address,
    another_address
FROM (
    SELECT
        window_start,
        window_end,
        app_id,
        auth_token_id,
        count(*) AS requests,
        count(DISTINCT network) AS networks,
        min(client_address) AS an_address,
        max(client_address) AS another_address
    FROM (
        SELECT
            *,
            CASE
                WHEN strpos(client_address, ':') > 0 THEN
                    concat(split_part(client_address, ':', 1), ':', split_part(client_address, ':', 2))
                ELSE
                    concat(split_part(client_address, '.', 1), '.', split_part(client_address, '.', 2))
            END AS network
        FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
        WHERE kind = 'request' AND auth_token_id IS NOT NULL AND client_address IS NOT NULL
            AND auth_outcome = 'allowed'
    )
    GROUP BY window_start, window_end, app_id, auth_token_id
)
WHERE networks >= 3
