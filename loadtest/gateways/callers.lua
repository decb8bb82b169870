-- For wrk: each request with another key, and the headers that an ordinary client sends. TOKENS names the file of keys.
local requests = {}

function init()
    for token in io.lines(os.getenv("TOKENS")) do
        requests[#requests + 1] = wrk.format("GET", "/things/1?page=2", {
            ["X-API-Key"] = token, ["User-Agent"] = "client/1.0", ["Accept"] = "application/json",
            ["Accept-Encoding"] = "gzip, br", ["Accept-Language"] = "en", ["Cache-Control"] = "no-cache",
            ["X-Request-Id"] = "0d9f0f5e-6c0f-4a52-8b53-0b1c7e6d7a11",
            ["Traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        })
    end
end

local at = 0
function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
