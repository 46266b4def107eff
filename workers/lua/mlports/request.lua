-- One request: what its handler knows of it, and how it is answered.

local messagepack = require "messagepack"
local wire = require "wire"
local null, violation = messagepack.null, messagepack.violation

local AHEAD = 16 -- items of a streamed argument that may be on their way

local Request = {}
Request.__index = Request
local request = {}

-- -- errors

local Failure = {}
Failure.__tostring = function(self) return self.code .. ": " .. self.message end

-- An error with a chosen code of SPEC.md 4.4, to be raised by error(failure, 0), or put in an item's place in a batch.
-- `more` may have data and retryable, which promises that the request had no effect.
function request.failure(code, message, more)
    return setmetatable({ code = code, message = message, data = more and more.data, retryable = more and more.retryable }, Failure)
end

-- The failure that another service's answer tells.
function request.failure_of(error_map)
    return request.failure(error_map.code, error_map.message, error_map)
end

local function one_line(text) return (tostring(text):gsub("%s+", " "):sub(1, 1000)) end

local function error_map(problem)
    if getmetatable(problem) == Failure then
        return messagepack.map {
            code = problem.code, message = one_line(problem.message), data = problem.data,
            retryable = problem.retryable or nil,
        }
    end
    return messagepack.map {
        code = "unknown", message = one_line(problem.text),
        data = messagepack.map { type = "error", traceback = problem.trace },
    }
end

local function caught(problem)
    if type(problem) == "table" and (problem.violation or getmetatable(problem) == Failure) then return problem end
    return { text = tostring(problem), trace = debug.traceback(tostring(problem), 2) }
end

-- true and the function's results, or false and the failure. Violations are nobody's to catch.
local function try(f, ...)
    local results = table.pack(xpcall(f, caught, ...))
    if not results[1] and results[2].violation then error(results[2], 0) end
    return table.unpack(results, 1, results.n)
end

-- -- requests

-- Seconds since some moment, by a clock that nobody sets where there is one (Linux), to a hundredth.
local function now()
    local file = io.open("/proc/uptime")
    if not file then return os.time() end
    local seconds = file:read("n")
    file:close()
    return seconds
end

-- Arguments as an array, nil among them too.
function request.list(...)
    local list = messagepack.array({ ... })
    for at = 1, select("#", ...) do
        if list[at] == nil then list[at] = null end
    end
    return list
end

local function given(value) if value == null then return nil end return value end

function request.new(worker, message, handler)
    local left = given(message.meta.deadline_ms)
    return setmetatable({
        worker = worker, handler = handler, id = message.id, method = message.method, params = message.params,
        meta = message.meta, config = worker.config, traceparent = given(message.meta.traceparent),
        idempotency_key = given(message.meta.idempotency_key), credit = given(message.meta.credit),
        expires = left and now() + left / 1000, late = left == 0, items = {}, granted = 0, input_ended = false,
    }, Request)
end

-- Seconds that the caller will still wait, or nil for as long as it takes.
function Request:deadline() return self.expires and self.expires - now() end

-- Tells how far the work has come: numbers, and a text.
function Request:progress(done, total, text)
    if self.id then self.worker.wire:tell(2, "$/progress", request.list(self.id, done, total, text or "")) end
end

-- One item of the answer of a streaming method; waits until the caller takes it.
function Request:emit(item)
    if not self.credit then
        self.collected[#self.collected + 1] = item == nil and null or item
        return
    end
    while self.credit <= 0 do
        if self.cancelled or self.worker.ended then error(request.failure("cancelled", "nobody takes the items any more"), 0) end
        self.worker:hear()
    end
    self.credit = self.credit - 1
    self.worker.wire:tell(2, "$/item", request.list(self.id, item))
end

-- Goes through the streamed argument: for item in request:input() do … end
function Request:input()
    return function()
        while true do
            self:grant()
            if #self.items > 0 then return table.remove(self.items, 1) end
            if self.input_ended then return nil end
            if self.cancelled then error(request.failure("cancelled", "the caller does not want the answer any more"), 0) end
            if self.worker.ended then error(request.failure("unavailable", "the streamed argument was cut off"), 0) end
            self.worker:hear()
        end
    end
end

function Request:grant()
    local ahead = self.granted + #self.items
    if self.input_ended or ahead > AHEAD / 2 then return end
    self.granted = self.granted + AHEAD - ahead
    self.worker.wire:tell(2, "$/input_credit", request.list(self.id, AHEAD - ahead))
end

-- -- answers

local function plain(params)
    local arguments = { n = #params }
    for at = 1, #params do arguments[at] = given(params[at]) end
    return arguments
end

function Request:call_one(params)
    local handler = self.handler
    if handler.kind == "batch" then
        local result = self:call_batch({ params })[1]
        if getmetatable(result) == Failure then error(result, 0) end
        return given(result)
    end
    self.collected = messagepack.array()
    local arguments = plain(params)
    local result = handler.run(self, table.unpack(arguments, 1, arguments.n))
    if handler.kind ~= "stream" then return result end
    return not self.credit and self.collected or nil
end

function Request:call_batch(items)
    local single = true
    for _, item in ipairs(items) do single = single and #item == 1 end
    local list = messagepack.array()
    for at, item in ipairs(items) do list[at] = single and item[1] or item end
    local results = self.handler.run(self, list)
    if type(results) ~= "table" or #results ~= #items then
        local count = type(results) == "table" and #results or "no"
        error(request.failure("internal", "the batch method gave " .. count .. " results for " .. #items), 0)
    end
    return results
end

local function pair(good, result)
    if good and getmetatable(result) ~= Failure then return request.list(null, result) end
    return request.list(error_map(result), null)
end

function Request:outcome()
    local left = self:deadline()
    if left and (left <= 0 or self.late) then
        error(request.failure("deadline_exceeded", "the deadline of " .. self.method .. " passed before it began"), 0)
    end
    if given(self.meta.batch) == nil then return self:call_one(self.params) end
    local pairs_of = messagepack.array()
    if self.handler.kind == "batch" then
        for at, result in ipairs(self:call_batch(self.params)) do pairs_of[at] = pair(true, result) end
    else
        for at, params in ipairs(self.params) do pairs_of[at] = pair(try(self.call_one, self, params)) end
    end
    return pairs_of
end

-- Does what is asked for, and answers, once.
function Request:answer()
    local worker = self.worker
    local good, result = try(self.outcome, self)
    if not self.id then
        if not good then worker:log("error", "the cast to " .. self.method .. " failed: " .. error_map(result).message) end
        return
    end
    worker.open[self.id] = nil
    local sent, why
    if good then sent, why = pcall(worker.wire.tell, worker.wire, 1, self.id, nil, result)
    else sent, why = pcall(worker.wire.tell, worker.wire, 1, self.id, error_map(result), nil)
    end
    if not sent then
        local code = tostring(why):find("^too long") and "resource_exhausted" or "internal"
        worker:refuse(self.id, code, one_line("the answer cannot be sent: " .. tostring(why)))
    end
end

-- -- what may be wrong

local function is_count(value, least) return math.type(value) == "integer" and value >= least end

-- What is wrong with a request's meta for this handler; nil where all is well. Raises a violation.
function request.problem(handler, message)
    local credit, batch, input = given(message.meta.credit), given(message.meta.batch), message.meta.input == true
    if credit ~= nil and not is_count(credit, 0) then violation("InvalidMessage", "a credit that is none") end
    if handler.input and not input then return "it takes a streamed argument" end
    if input and not handler.input then return "it takes no streamed argument" end
    if batch == nil then return nil end
    if credit or input then return "a batch neither streams nor takes a streamed argument" end
    local good = is_count(batch, 1) and batch == #message.params
    for _, item in ipairs(message.params) do good = good and getmetatable(item) == messagepack.types.array end
    return not good and "a batch of n is an array of n lists of arguments" or nil
end

-- A notification of the protocol's. Raises a violation.
function request.control(worker, method, params)
    if method == "$/stop" then worker.stopping = true return end
    if method ~= "$/cancel" and method ~= "$/credit" and method ~= "$/input" and method ~= "$/input_end" then return end
    local good = is_count(params[1], 0) and (method ~= "$/credit" or is_count(params[2], 1)) and (method ~= "$/input" or #params > 1)
    if not good then violation("InvalidMessage", "params of " .. method) end
    local asked = worker.open[params[1]]
    if not asked then return end
    if method == "$/cancel" then asked.cancelled = true
    elseif method == "$/credit" then if asked.credit then asked.credit = asked.credit + params[2] end
    elseif method == "$/input_end" then asked.input_ended = true
    else
        if asked.granted <= 0 then violation("CreditExceeded", "an item for request " .. params[1] .. " beyond its credit") end
        asked.granted = asked.granted - 1
        asked.items[#asked.items + 1] = params[2]
    end
end

-- The fields of $/hello, with their defaults. Raises a violation.
function request.check_hello(hello)
    local is_map = function(value) return getmetatable(value) == messagepack.types.map end
    local field = function(name) return is_map(hello) and given(hello[name]) or nil end
    local versions, longest, features = field("protocol"), field("max_frame"), field("features")
    local good = is_map(versions) and math.type(versions.min) == "integer" and math.type(versions.max) == "integer"
        and (longest == nil or is_count(longest, 1) and longest < 1 << 31)
        and (features == nil or getmetatable(features) == messagepack.types.array)
        and (field("service") == nil or wire.text(field("service")) ~= nil)
        and (field("replica") == nil or is_count(field("replica"), 0))
        and (field("config") == nil or is_map(field("config")))
    for _, feature in ipairs(good and features or {}) do good = good and wire.text(feature) ~= nil end
    if not good then violation("InvalidHello", "a field of $/hello is wrong") end
    if versions.min > 1 or versions.max < 1 then
        local offered = versions.min .. " to " .. versions.max
        violation("UnsupportedVersion", "this SDK speaks version 1, the orchestrator " .. offered)
    end
    return { max_frame = longest or wire.MAX_FRAME, features = features or {}, config = field("config") or messagepack.map() }
end

return request
