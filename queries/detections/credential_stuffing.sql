-- title: Somebody tries credentials
-- owner: security
-- lateness: 60 s
-- severity: high
-- subject: client_address
-- quiet: 1 h
-- action: {block: address, for: 1 h}
-- message: >-
--   {{ client_address }} was refused {{ denied | grouped }} of {{ tried | grouped }} times within ten minutes for what it
--   proved itself by, under {{ names | grouped }} names.
--
-- Per address and ten minutes, of which one begins every minute: 30 refusals or more of a
-- credential that is false, at APIs and at the token endpoint, which are nine tenths or more
-- of those that it tried. One that was let in all the same is critical: one of them may be
-- right. What is refused for another reason (no credential, one that has expired, a missing
-- scope, a deny rule), and what asks for no credential, does not count.
--
-- Parameters: 30 refusals; nine tenths; ten minutes.
--
-- Runbook: its address is blocked for an hour, at the token endpoint too, where a safeguard enforces
-- that; a deny rule blocks it at the gateways for good. If it was let in, see as whom (`auth_subject`
-- of the events that the alert's query shows), revoke its tokens and change its secret. Many
-- people may share an address: a new release with a wrong secret looks like this too, and
-- `weir decisions lift` lets them in again.
SELECT
    window_start,
    window_end,
    client_address,
    denied + let_in AS tried,
    denied,
    let_in,
    names,
    a_reason,
    a_user_agent,
    CASE WHEN let_in > 0 THEN 'critical' ELSE 'high' END AS severity
FROM (
    SELECT
        window_start,
        window_end,
        client_address,
        count(*) FILTER (WHERE is_false) AS denied,
        count(*) FILTER (WHERE is_right) AS let_in,
        count(DISTINCT auth_subject) FILTER (WHERE is_false) AS names,
        min(auth_reason) FILTER (WHERE is_false) AS a_reason,
        min(user_agent_original) FILTER (WHERE is_false) AS a_user_agent
    FROM (
        SELECT
            *,
            auth_outcome = 'denied' AND auth_reason IN (
                'client_invalid', 'token_malformed', 'token_key_unknown',
                'token_signature_invalid', 'token_issuer_invalid', 'token_audience_invalid'
            ) AS is_false,
            auth_outcome = 'allowed' AND auth_method <> 'none' AS is_right
        FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
        WHERE kind IN ('request', 'authentication', 'token') AND client_address IS NOT NULL
    )
    GROUP BY window_start, window_end, client_address
)
WHERE denied >= 30 AND 10 * denied >= 9 * (denied + let_in)
