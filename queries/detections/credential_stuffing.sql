-- title: Somebody tries credentials
-- owner: security
-- lateness: 60 s
-- severity: high
-- subject: client_address
-- quiet: 1 h
-- message: >-
--   {{ client_address }} was refused {{ denied | grouped }} of {{ tried | grouped }} times within ten minutes for what it
--   proved itself by, as {{ subjects | grouped }} known clients or users.
--
-- Per address and ten minutes, of which one begins every minute: 30 refusals or more that are
-- nine tenths or more of what it tried, at APIs and at the token endpoint. One that was let
-- in all the same is critical: one of the credentials may be right.
--
-- Runbook: block the address with a deny rule. If it was let in, see as whom (`auth_subject`
-- of the events that the alert's query shows), revoke its tokens and change its secret. Many
-- people may share an address: a new release with a wrong secret looks like this too.
SELECT
    window_start,
    window_end,
    client_address,
    tried,
    denied,
    tried - denied AS let_in,
    subjects,
    a_reason,
    a_user_agent,
    CASE WHEN tried > denied THEN 'critical' ELSE 'high' END AS severity
FROM (
    SELECT
        window_start,
        window_end,
        client_address,
        count(*) AS tried,
        count(*) FILTER (WHERE auth_outcome = 'denied') AS denied,
        count(DISTINCT auth_subject) AS subjects,
        min(auth_reason) FILTER (WHERE auth_outcome = 'denied') AS a_reason,
        min(user_agent_original) AS a_user_agent
    FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
    WHERE kind IN ('request', 'authentication')
        AND client_address IS NOT NULL
        AND auth_outcome IN ('allowed', 'denied')
    GROUP BY window_start, window_end, client_address
)
WHERE denied >= 30 AND 10 * denied >= 9 * tried
