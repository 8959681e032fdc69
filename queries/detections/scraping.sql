-- title: Somebody reads everything
-- owner: security
-- lateness: 60 s
-- memory_mib: 256
-- severity: medium
-- subject: client_address
-- quiet: 1 h
-- action: {slow: address, to: 60/1 h, for: 2 h}
-- message: >-
--   {{ client_address }} read {{ pages | grouped }} different pages within an hour, in {{ requests | grouped }} requests,
--   hardly one of them twice.
--
-- Per address and hour, of which one begins every five minutes, of requests that are of no
-- application: 150 different paths or more, with their queries, that were there (200 to 299), and
-- four fifths or more of its requests to different ones. An application has its tier, and one
-- that works through its orders one by one is what it was made for.
--
-- Parameters: 150 pages; four fifths; an hour.
--
-- In the access log of May 2015 nobody is found: the most are 75 paths in an hour, of
-- 130.237.218.86 on the 20th, who read a set of slides once.
--
-- Runbook: a search engine names itself in `a_user_agent` (check its address by reverse lookup). It
-- is slowed down for two hours, where a safeguard enforces that: lift it (`weir decisions lift`) if it
-- is somebody of yours. If not, a deny rule blocks it, or let the API ask for a subscription.
SELECT
    window_start,
    window_end,
    client_address,
    requests,
    pages,
    bytes,
    a_path,
    a_user_agent
FROM (
    SELECT
        window_start,
        window_end,
        client_address,
        count(*) AS requests,
        count(DISTINCT concat(url_path, '?', url_query)) FILTER (
            WHERE http_response_status_code BETWEEN 200 AND 299
        ) AS pages,
        sum(http_response_body_size) AS bytes,
        min(url_path) AS a_path,
        min(user_agent_original) AS a_user_agent
    FROM HOP(events, event_time, INTERVAL '5 minutes', INTERVAL '1 hour')
    WHERE kind = 'request' AND client_address IS NOT NULL AND app_id IS NULL
    GROUP BY window_start, window_end, client_address
)
WHERE pages >= 150 AND 5 * pages >= 4 * requests
