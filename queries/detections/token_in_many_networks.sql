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
-- Per token and ten minutes, of which one begins every minute: three networks or more of one kind,
-- IPv4 by its first 16 bits or IPv6 by its first 32, from which the same token was let in. A
-- telephone changes from one network to another, and may use both kinds in each; nobody is in
-- three places within ten minutes. How far they are from each other is not asked: Weir knows no
-- places of addresses.
--
-- Parameters: three networks; 16 and 32 bits; ten minutes.
--
-- Runbook: the token is with somebody else. It is good until it expires: block the addresses that
-- are not the application's own with a deny rule until then, and change its secret. A client that
-- shares one token among its servers in several networks looks like this too: copy the file, and
-- leave it out by its `app_id`.
SELECT
    window_start,
    window_end,
    app_id,
    auth_token_id,
    requests,
    greatest(networks_4, networks_6) AS networks,
    an_address,
    another_address
FROM (
    SELECT
        window_start,
        window_end,
        app_id,
        auth_token_id,
        count(*) AS requests,
        count(DISTINCT concat(split_part(client_address, '.', 1), '.', split_part(client_address, '.', 2)))
            FILTER (WHERE NOT is_ipv6) AS networks_4,
        count(DISTINCT concat(split_part(client_address, ':', 1), ':', split_part(client_address, ':', 2)))
            FILTER (WHERE is_ipv6) AS networks_6,
        min(client_address) AS an_address,
        max(client_address) AS another_address
    FROM (
        SELECT *, strpos(client_address, ':') > 0 AS is_ipv6
        FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
        WHERE kind = 'request' AND auth_token_id IS NOT NULL AND client_address IS NOT NULL
            AND auth_outcome = 'allowed'
    )
    GROUP BY window_start, window_end, app_id, auth_token_id
)
WHERE greatest(networks_4, networks_6) >= 3
