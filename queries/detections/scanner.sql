-- title: Somebody looks for what is not there
-- owner: security
-- lateness: 60 s
-- severity: medium
-- subject: client_address
-- quiet: 1 h
-- action: {block: address, for: 1 h}
-- message: >-
--   {{ client_address }} asked for {{ paths | grouped }} different paths within ten minutes that are not there, in
--   {{ missed | grouped }} of its {{ requests | grouped }} requests.
--
-- Per address and ten minutes, of which one begins every minute: 20 different paths or more
-- that were not found, or that no method or API serves (404, 405), in a half of its requests
-- or more. A search engine meets old links among many good ones; a person mistypes one.
--
-- In the access log of May 2015 nobody is found: the most in ten minutes are 10 different
-- paths, of 144.76.95.39 on the 20th, a crawler with an old map of the site.
--
-- Parameters: 20 paths; a half; ten minutes.
--
-- Runbook: `a_path` and `a_user_agent` mostly say what it looks for. Its address
-- is blocked for an hour, where a safeguard enforces that: if it is somebody of yours, lift it
-- (`weir decisions lift`) and let a safeguard protect them; if not, a deny rule blocks it for good.
-- What it found is among its other requests.
SELECT
    window_start,
    window_end,
    client_address,
    requests,
    missed,
    paths,
    a_path,
    a_user_agent
FROM (
    SELECT
        window_start,
        window_end,
        client_address,
        count(*) AS requests,
        count(*) FILTER (WHERE http_response_status_code IN (404, 405)) AS missed,
        count(DISTINCT url_path) FILTER (WHERE http_response_status_code IN (404, 405)) AS paths,
        min(url_path) FILTER (WHERE http_response_status_code IN (404, 405)) AS a_path,
        min(user_agent_original) AS a_user_agent
    FROM HOP(events, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')
    WHERE kind = 'request' AND client_address IS NOT NULL
    GROUP BY window_start, window_end, client_address
)
WHERE paths >= 20 AND 2 * missed >= requests
