-- title: A client left its usual range
-- owner: security
-- lateness: 60 s
-- horizon: 24 h
-- severity: medium
-- subject: client_address
-- quiet: 2 h
-- message: >-
--   {{ client_address }} sent {{ requests | grouped }} requests within an hour, of which {{ errors | grouped }} failed.
--   Usual is at most {{ requests_limit | grouped }} requests and {{ errors_limit | grouped }} failures, learnt from {{ learnt_from }}.
--
-- Per client and hour, against the day before. A client that was there in 12 of those
-- hours is measured by itself, at 4 standard deviations above its mean; a newer one by
-- all clients, at 8, since clients differ more than the hours of one client do. Under
-- 30 requests or 5 failures in an hour nothing is found, nor before 200 hours of
-- clients are known. A finding is of high severity from twice the limit on, or if the
-- failures are out of range and more than half of the requests.
--
-- Parameters: 24 and 12 hours; 4 and 8 deviations; 30 requests; 5 failures; 200 hours; twice the limit.
--
-- Runbook: `a_user_agent` and `a_failed_path` mostly say what it is. A client of yours that tries again
-- without a pause: tell its owner. Nobody of yours: block the address with a deny rule.
WITH hours AS (
    SELECT
        window_start,
        window_end,
        client_address,
        count(*) AS requests,
        count(*) FILTER (WHERE http_response_status_code >= 400) AS errors,
        min(url_path) FILTER (WHERE http_response_status_code >= 400) AS failed_path,
        min(user_agent_original) AS user_agent
    FROM TUMBLE(events, event_time, INTERVAL '1 hour')
    WHERE kind = 'request' AND client_address IS NOT NULL
    GROUP BY window_start, window_end, client_address
),
sums AS (
    SELECT
        *,
        count(*) OVER own AS own_hours,
        sum(requests) OVER own AS own_requests,
        sum(requests * requests) OVER own AS own_requests_squared,
        sum(errors) OVER own AS own_errors,
        sum(errors * errors) OVER own AS own_errors_squared,
        count(*) OVER everybody AS all_hours,
        sum(requests) OVER everybody AS all_requests,
        sum(requests * requests) OVER everybody AS all_requests_squared,
        sum(errors) OVER everybody AS all_errors,
        sum(errors * errors) OVER everybody AS all_errors_squared
    FROM hours
    WINDOW
        own AS (
            PARTITION BY client_address ORDER BY window_start
            RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND INTERVAL '1 hour' PRECEDING
        ),
        everybody AS (
            ORDER BY window_start
            RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND INTERVAL '1 hour' PRECEDING
        )
),
learnt AS (
    SELECT
        window_start,
        window_end,
        client_address,
        requests,
        errors,
        failed_path,
        user_agent,
        own_hours,
        all_hours,
        CASE WHEN own_hours >= 12 THEN 4 ELSE 8 END AS deviations,
        CASE WHEN own_hours >= 12 THEN own_hours ELSE all_hours END AS hours,
        CASE WHEN own_hours >= 12 THEN own_requests ELSE all_requests END AS requests_sum,
        CASE WHEN own_hours >= 12 THEN own_requests_squared ELSE all_requests_squared END AS requests_squared,
        CASE WHEN own_hours >= 12 THEN own_errors ELSE all_errors END AS errors_sum,
        CASE WHEN own_hours >= 12 THEN own_errors_squared ELSE all_errors_squared END AS errors_squared
    FROM sums
    WHERE own_hours >= 12 OR all_hours >= 200
),
ranges AS (
    -- hours * sum of squares - square of the sum is hours squared times the variance. The sums
    -- are exact; their products may be longer than a whole number.
    SELECT
        *,
        greatest(30, ceil((requests_sum + deviations * sqrt(greatest(0.0,
            CAST(hours AS DOUBLE) * requests_squared - CAST(requests_sum AS DOUBLE) * requests_sum
        ))) / nullif(hours, 0))) AS requests_range,
        greatest(5, ceil((errors_sum + deviations * sqrt(greatest(0.0,
            CAST(hours AS DOUBLE) * errors_squared - CAST(errors_sum AS DOUBLE) * errors_sum
        ))) / nullif(hours, 0))) AS errors_range
    FROM learnt
)
SELECT
    window_start,
    window_end,
    client_address,
    requests,
    CAST(requests_range AS BIGINT) AS requests_limit,
    errors,
    CAST(errors_range AS BIGINT) AS errors_limit,
    failed_path AS a_failed_path,
    user_agent AS a_user_agent,
    CASE
        WHEN own_hours >= 12 THEN concat(own_hours, ' hours of its own')
        ELSE concat(all_hours, ' hours of clients of all kinds')
    END AS learnt_from,
    CASE
        WHEN requests >= 2 * requests_range OR errors >= 2 * errors_range THEN 'high'
        WHEN errors > errors_range AND 2 * errors > requests THEN 'high'
        ELSE 'medium'
    END AS severity
FROM ranges
WHERE requests > requests_range OR errors > errors_range
