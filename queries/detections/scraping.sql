-- title: Somebody reads everything
-- owner: security
-- lateness: 60 s
-- memory_mib: 256
-- severity: medium
-- subject: client_address
-- quiet: 1 h
-- message: >-
--   {{ client_address }} read {{ paths | grouped }} different pages within an hour, in {{ requests | grouped }} requests,
--   hardly one of them twice.
--
-- Per address and hour, of which one begins every five minutes: 150 different paths or more that
-- were there (200 to 299), and four fifths or more of its requests to different ones. People come
-- back to pages, and to what stands on each of them; who reads a catalogue does not.
--
-- In the access log of May 2015 nobody is found: the most are 75 paths in an hour, of
-- 130.237.218.86 on the 20th, who read a set of slides once.
--
-- Runbook: a search engine names itself in `a_user_agent` (check its address by reverse lookup). If
-- it is nobody of yours, limit it by its address, or let the API ask for a subscription.
SELECT
    window_start,
    window_end,
    client_address,
    requests,
    paths,
    bytes,
    a_path,
    a_user_agent
FROM (
    SELECT
        window_start,
        window_end,
        client_address,
        count(*) AS requests,
        count(DISTINCT url_path) FILTER (
            WHERE http_response_status_code BETWEEN 200 AND 299
        ) AS paths,
        sum(http_response_body_size) AS bytes,
        min(url_path) AS a_path,
        min(user_agent_original) AS a_user_agent
    FROM HOP(events, event_time, INTERVAL '5 minutes', INTERVAL '1 hour')
    WHERE kind = 'request' AND client_address IS NOT NULL
    GROUP BY window_start, window_end, client_address
)
WHERE paths >= 150 AND 5 * paths >= 4 * requests
