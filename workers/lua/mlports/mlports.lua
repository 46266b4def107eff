-- The SDK for worker programs in Lua 5.3 or newer. It needs nothing but Lua, and sh to start it.
--
--     package.path = "mlports/?.lua;" .. package.path
--     local mlports = require "mlports"
--
--     local worker = mlports.worker("digits")
--     worker:method("double", function(request, x) return 2 * x end)
--     worker:run()
--
-- Start it as `sh mlports/run.sh lua5.4 worker.lua`: what it prints goes to standard error then, and no print can get
-- between two frames.

local messagepack = require "messagepack"
local ndarray = require "ndarray"
local request = require "request"
local wire = require "wire"

local null = messagepack.null
local mlports = {
    VERSION = "0.1.0", null = null, array = messagepack.array, map = messagepack.map, bytes = messagepack.bytes,
    ndarray = ndarray, failure = request.failure,
}

local FEATURES = messagepack.array { "batch", "input", "ndarray", "stream" }

local Worker = {}
Worker.__index = Worker

-- A worker program called `name`. It does one thing at a time, and hears what the orchestrator says in between, and
-- while a handler waits (request:emit, request:input, worker:call). So it claims neither `ping` nor `cancel`.
function mlports.worker(name)
    return setmetatable({
        name = name, handlers = {}, on_setup = function() end, phase = "new", config = {}, queue = {}, open = {}, calls = {},
        next_id = 0, stopping = false, ended = false,
    }, Worker)
end

-- What is done once, with the service's config (a table), before the first call: the place to load a model.
function Worker:setup(handler) self.on_setup = handler return self end

local function add(self, kind, name, handler, options)
    if name:sub(1, 2) == "$/" then error(name .. ": names beginning with $/ are the protocol's", 3) end
    options = options or {}
    self.handlers[name] = { kind = kind, run = handler, idempotent = options.idempotent, input = options.input }
    return self
end

-- function(request, ...) that returns a value. Options: idempotent (twice does the same as once, so that a call may be
-- repeated after a crash), input (there is a streamed argument: for item in request:input() do).
function Worker:method(name, handler, options) return add(self, "plain", name, handler, options) end

-- function(request, list) that returns as many results as the list has arguments (lists, where calls have several); a
-- failure in a result's place is that item's error.
function Worker:batch(name, handler, options) return add(self, "batch", name, handler, options) end

-- function(request, ...) that gives its items by request:emit(item).
function Worker:stream(name, handler, options) return add(self, "stream", name, handler, options) end

-- A line for the orchestrator's log; level is debug, info, warning or error.
function Worker:log(level, text, fields)
    self.wire:tell(2, "$/log", messagepack.array { level, text, messagepack.map(fields or {}) })
end

-- The result of "service.method" of another service, for the handler of a request. Raises a failure.
function Worker:call(for_request, target, ...)
    local meta = { parent = for_request.id, traceparent = for_request.meta.traceparent }
    local left = for_request:deadline()
    if left then meta.deadline_ms = math.max(left, 0) * 1000 end
    local id = self.next_id
    self.next_id = id + 1
    self.calls[id] = false
    self.wire:tell(0, id, target, request.list(...), next(meta) and messagepack.map(meta) or nil)
    while not self.calls[id] do
        if self.ended then error(mlports.failure("unavailable", target .. " was not answered: the orchestrator is gone"), 0) end
        self:hear()
    end
    local answer = self.calls[id]
    self.calls[id] = nil
    if answer.error then error(request.failure_of(answer.error), 0) end
    if answer.result == null then return nil end
    return answer.result
end

-- The same without an answer.
function Worker:cast(target, ...) self.wire:tell(2, target, request.list(...)) end

-- -- what the orchestrator says

-- Waits for one message and sorts it. Raises a violation.
function Worker:hear()
    local message = self.wire:receive()
    if message == nil then self.ended = true
    elseif message.kind == 0 then self:on_request(message)
    elseif message.kind == 1 then
        if message.id >= self.next_id then
            messagepack.violation("UnknownId", "an answer to request " .. message.id .. ", which was never made")
        end
        if self.calls[message.id] == false then self.calls[message.id] = message end
    else self:on_notification(message)
    end
end

function Worker:refuse(id, code, text, retryable)
    self.wire:tell(1, id, messagepack.map { code = code, message = text, retryable = retryable }, nil)
end

function Worker:on_request(message)
    local id, method = message.id, message.method
    if self.phase == "new" and method == "$/hello" then return self:on_hello(message) end
    if self.open[id] then messagepack.violation("DuplicateId", "request id " .. id .. " is still in use") end
    if self.phase ~= "ready" or method == "$/hello" then
        messagepack.violation("HandshakeExpected", method .. " in phase " .. self.phase)
    end
    if method == "$/ping" then return self.wire:tell(1, id, nil, nil) end
    local handler = self.handlers[method]
    if not handler then return self:refuse(id, "unimplemented", "the worker " .. self.name .. " has no method " .. method) end
    if self.stopping then return self:refuse(id, "unavailable", "the worker is told to stop", true) end
    local problem = request.problem(handler, message)
    if problem then return self:refuse(id, "invalid_argument", method .. ": " .. problem) end
    self.open[id] = request.new(self, message, handler)
    self.queue[#self.queue + 1] = self.open[id]
end

function Worker:on_hello(message)
    local hello = request.check_hello(message.params[1])
    self.wire.max_frame, self.wire.peer_max_frame = hello.max_frame, hello.max_frame
    self.phase, self.config = "greeting", hello.config
    self.on_setup(self.config)
    for _, feature in ipairs(hello.features) do
        if feature == "ndarray" then self.wire.ndarray = true end
    end
    local methods = messagepack.map()
    for name, handler in pairs(self.handlers) do
        methods[name] = messagepack.map {
            batch = handler.kind == "batch", stream = handler.kind == "stream", idempotent = handler.idempotent == true,
            input = handler.input and true or nil,
        }
    end
    self.phase = "ready"
    self.wire:tell(1, message.id, nil, messagepack.map {
        protocol = 1, max_frame = self.wire.max_frame, name = self.name, language = "lua",
        sdk = "mlports-lua " .. mlports.VERSION, methods = methods, features = FEATURES, concurrency = 1,
    })
end

function Worker:on_notification(message)
    if self.phase ~= "ready" then
        messagepack.violation("HandshakeExpected", message.method .. " in phase " .. self.phase)
    end
    if message.method:sub(1, 2) == "$/" then return request.control(self, message.method, message.params) end
    local handler = self.handlers[message.method]
    if handler and not handler.input then
        self.queue[#self.queue + 1] = request.new(self, message, handler)
    else
        self:log("warning", "a cast to " .. message.method .. ", which cannot be cast to, was dropped")
    end
end

-- -- the loop

function Worker:work()
    while true do
        local job = table.remove(self.queue, 1)
        if job then
            job:answer()
        elseif self.stopping or self.ended then
            return
        else
            self:hear()
        end
    end
end

local function streams()
    local read, write = (os.getenv("MLPORTS_FRAMES") or ""):match("^(%d+),(%d+)$")
    local input, output = io.stdin, io.stdout
    if read then
        input = assert(io.open("/dev/fd/" .. read, "rb"))
        output = assert(io.open("/dev/fd/" .. write, "wb"))
    else -- started without run.sh: Lua's own printing is all that can be kept away
        io.output(io.stderr)
        io.stdout = io.stderr
        print = function(...) -- luacheck: ignore
            local words = {}
            for at = 1, select("#", ...) do words[at] = tostring((select(at, ...))) end
            io.stderr:write(table.concat(words, "\t"), "\n")
        end
    end
    output:setvbuf("full", 65536)
    return input, output
end

-- Answers until the orchestrator says stop or closes the stream, then ends the program with status 0. What breaks the
-- protocol ends it with status 1.
function Worker:run()
    self.wire = wire.new(streams())
    local good, problem = xpcall(self.work, function(problem)
        if type(problem) == "table" and problem.violation then return problem.violation .. ": " .. problem.reason end
        return debug.traceback(tostring(problem), 2)
    end, self)
    if not good then io.stderr:write(problem, "\n") end
    io.stderr:flush()
    os.exit(good and 0 or 1, false)
end

return mlports
