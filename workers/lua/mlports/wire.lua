-- Frames in, frames out, and what a message must look like.

local messagepack = require "messagepack"
local violation, types = messagepack.violation, messagepack.types

local wire = { MAX_FRAME = 67108864 }
wire.__index = wire

-- Takes two files, opened to read and to write bytes.
function wire.new(input, output)
    return setmetatable({
        input = input, output = output, max_frame = wire.MAX_FRAME, peer_max_frame = wire.MAX_FRAME, ndarray = false,
    }, wire)
end

-- The next message, waited for; nil at the end. Raises a violation.
function wire:receive()
    local head = self.input:read(4)
    if head == nil then return nil end
    if #head < 4 then violation("TruncatedFrame", "the input ends inside a frame") end
    local length = string.unpack(">I4", head)
    if length == 0 then violation("EmptyFrame", "a frame of length 0") end
    if length > self.max_frame then
        violation("FrameTooLarge", "a frame of " .. length .. " bytes; at most " .. self.max_frame)
    end
    local payload = self.input:read(length)
    if payload == nil or #payload < length then violation("TruncatedFrame", "the input ends inside a frame") end
    return wire.check(messagepack.decode(payload, self.ndarray))
end

-- Writes one message. Raises a text for a value that cannot be sent, or makes too long a frame.
function wire:tell(...)
    local message = messagepack.array({ ... })
    for at = 1, select("#", ...) do
        if message[at] == nil then message[at] = messagepack.null end
    end
    local payload = messagepack.encode(message, self.ndarray)
    if #payload > self.peer_max_frame then
        error("too long: " .. #payload .. " bytes, and the orchestrator takes frames of " .. self.peer_max_frame
            .. " (max_frame)", 0)
    end
    local written = self.output:write(string.pack(">I4", #payload), payload) and self.output:flush()
    if not written then os.exit(1, false) end -- nobody reads any more, and there is nobody to tell
end

local function invalid(what) violation("InvalidMessage", what) end

-- A string, also one that came as bin (SPEC.md 3.4); nil for anything else.
local function text(value)
    if type(value) == "string" then return value end
    if getmetatable(value) == types.bytes and utf8.len(value[1]) then return value[1] end
    return nil
end
wire.text = text

local function id(value)
    if math.type(value) ~= "integer" or value < 0 or value >= 1 << 53 then invalid("an id that is none") end
    return value
end

local function meta(value)
    if value == nil or value == messagepack.null then return {} end
    if getmetatable(value) ~= types.map then invalid("meta that is no map") end
    for key in pairs(value) do
        if type(key) ~= "string" then invalid("meta that is no map of strings") end
    end
    local deadline = value.deadline_ms
    if deadline ~= nil and deadline ~= messagepack.null and not (math.type(deadline) and deadline >= 0) then
        invalid("a deadline_ms that is no number")
    end
    return value
end

local function failure(error_map, result)
    if error_map == messagepack.null then return nil end
    local good = getmetatable(error_map) == types.map and text(error_map.code) and text(error_map.message)
        and result == messagepack.null and (error_map.retryable == nil or type(error_map.retryable) == "boolean")
    if not good then invalid("an error without code and message, or with a result") end
    error_map.code, error_map.message = text(error_map.code), text(error_map.message)
    return error_map
end

-- A message taken apart: {kind, id, method, params, meta} or {1, id, error, result}. Raises a violation.
function wire.check(message)
    if getmetatable(message) ~= types.array or math.type(message[1]) ~= "integer" then invalid("a message that is none") end
    local kind = message[1]
    if kind < 0 or kind > 2 then invalid("a message of an unknown kind") end
    if #message < (kind == 2 and 3 or 4) then invalid("a message that is too short") end
    if kind == 1 then
        meta(message[5])
        return { kind = 1, id = id(message[2]), error = failure(message[3], message[4]), result = message[4] }
    end
    local number = nil
    if kind == 0 then number = id(message[2]) end
    local at = kind == 0 and 3 or 2
    local method, params = text(message[at]), message[at + 1]
    if not method or method == "" then invalid("a method that is no text") end
    if getmetatable(params) ~= types.array then invalid("params that are no array") end
    return { kind = kind, id = number, method = method, params = params, meta = meta(message[at + 2]) }
end

return wire
