-- Asks the verifier's /v1/authz about a request: `http-request lua.verify ADDRESS SCOPES`. HAProxy 2.6 or newer.
-- ADDRESS is that of a section of HAProxy's own, which keeps connections to nodes; see haproxy.cfg.
--
-- Allowed: the identity headers of the request are the verifier's, the caller's own are gone; txn.verifier is
-- "allowed", and txn.verifier_phase, _deprecation and _sunset hold what the caller should be told, if anything.
-- Refused: the caller gets the verifier's answer. No answer in time, or a fault: txn.verifier is "unavailable" and the
-- identity headers are gone; what happens then is the configuration's to say.

local TIMEOUT_MS = 300
-- Identity headers begin so; with underscores, too, as many applications make no difference between the two.
local IDENTITY = "^x[-_]verifier[-_]"
local TOLD = {
    ["x-api-key-phase"] = "txn.verifier_phase", ["deprecation"] = "txn.verifier_deprecation",
    ["sunset"] = "txn.verifier_sunset",
}
-- What the verifier takes keys from; add to it what its setting for key places names.
local PASSED_ON = { "authorization", "x-api-key" }
local REFUSAL = { "content-type", "www-authenticate", "retry-after", "cache-control" }

-- HAProxy counts the values of a header from 0.
local function values(header)
    local list = {}
    local at = 0
    while header and header[at] do
        list[#list + 1] = header[at]
        at = at + 1
    end
    return list
end

local function question(txn)
    local caller = txn.http:req_get_headers()
    local headers = {
        ["x-real-ip"] = { txn.f:src() },
        ["x-forwarded-uri"] = { txn.f:url() },
    }
    for _, name in ipairs(PASSED_ON) do
        if caller[name] then headers[name] = values(caller[name]) end
    end
    return headers
end

-- Nobody outside may say who they are.
local function forget_caller(txn)
    for name in pairs(txn.http:req_get_headers()) do
        if name:find(IDENTITY) then txn.http:req_del_header(name) end
    end
end

local function refuse(txn, answer)
    local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body })
    for _, name in ipairs(REFUSAL) do
        for _, value in ipairs(values(answer.headers[name])) do reply:add_header(name, value) end
    end
    txn:done(reply)
end

core.register_action("verify", { "http-req" }, function(txn, address, scopes)
    local headers = question(txn)
    forget_caller(txn)
    local answer = core.httpclient():get({
        url = "http://127.0.0.1/v1/authz?scopes=" .. scopes, dst = address, headers = headers, timeout = TIMEOUT_MS,
    })
    local status = answer and answer.status or 0
    if status >= 200 and status < 300 then
        for name, header in pairs(answer.headers) do
            local value = values(header)[1]
            if name:find(IDENTITY) and value ~= "" then txn.http:req_set_header(name, value) end
        end
        for name, variable in pairs(TOLD) do
            local value = values(answer.headers[name])[1]
            if value and value ~= "" then txn:set_var(variable, value) end
        end
        txn:set_var("txn.verifier", "allowed")
    elseif status >= 400 and status < 500 then
        refuse(txn, answer)
    else
        txn:set_var("txn.verifier", "unavailable")
    end
end, 2)
