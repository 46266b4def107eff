-- The golden vectors of the protocol, as far as they are about bytes and values.
package.path = "mlports/?.lua;tests/?.lua;" .. package.path
local json = require "json"
local messagepack = require "messagepack"
local ndarray = require "ndarray"
local wire = require "wire"
local null, types = messagepack.null, messagepack.types

local function bytes(hex) return (hex:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end)) end
local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end

-- A stream of bytes that gives what is asked for, or what is left.
local function stream(s)
    local at = 1
    return {
        read = function(_, count)
            local found = s:sub(at, at + count - 1)
            at = at + #found
            return found ~= "" and found or nil
        end,
    }
end

local floats = { inf = math.huge, ["-inf"] = -math.huge, nan = -(0 / 0), ["-0.0"] = -0.0 }

local value

local tagged = {
    int = function(content)
        local number = math.tointeger(tonumber(content))
        if number then return number end
        return messagepack.decode("\xcf" .. (content == "18446744073709551615" and ("\xff"):rep(8) or "\x80" .. ("\0"):rep(7)))
    end,
    float = function(content) return floats[content] or tonumber(content) + 0.0 end,
    bin = function(content) return messagepack.bytes(bytes(content)) end,
    map = function(content)
        local map = messagepack.map()
        for _, pair in ipairs(content) do
            local key = value(pair[1])
            map[getmetatable(key) == types.bytes and key[1] or key] = value(pair[2])
        end
        return map
    end,
    timestamp = function(content) return setmetatable({ content[1], content[2] }, types.timestamp) end,
    ndarray = function(content)
        return setmetatable({ dtype = value(content.dtype), shape = value(content.shape), data = bytes(content.hex) }, types.ndarray)
    end,
    ext = function(content) return setmetatable({ code = content[1], data = bytes(content[2]) }, types.extension) end,
}

function value(found)
    if found == json.null then return null end
    if type(found) ~= "table" then return found end
    if not found.is_array then
        local tag, content = next(found)
        return tagged[tag](content)
    end
    local array = messagepack.array()
    for at, item in ipairs(found) do array[at] = value(item) end
    return array
end

-- A value by what tells it from all others: NaN like NaN, and the order of keys is nobody's.
local function shown(item)
    if item == nil then return "nil" end
    if item ~= item then return "nan" end
    if getmetatable(item) == types.ndarray then return "array" .. shown(item.dtype) .. shown(item.shape) .. hex(item.data) end
    if getmetatable(item) == types.array then
        local parts = {}
        for at = 1, #item do parts[at] = shown(item[at]) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    if getmetatable(item) == types.map or type(item) == "table" and getmetatable(item) == nil then
        local parts = {}
        for key, part in pairs(item) do parts[#parts + 1] = tostring(key) .. ":" .. shown(part) end
        table.sort(parts)
        return "{" .. table.concat(parts, ",") .. "}"
    end
    return hex(messagepack.encode(item))
end

local function described(kind, message)
    local parts = { kind, tostring(message.id) }
    if kind == 1 then
        parts[3] = shown(message.error or null)
        parts[4] = shown(message.result)
    else
        parts[3], parts[4], parts[5] = message.method, shown(message.params), shown(message.meta)
    end
    return table.concat(parts, " ")
end

local kinds = { request = 0, response = 1, notification = 2 }

local function wanted_of(message)
    local found = { id = message.id, method = message.method, params = value(message.params) }
    if message.type == "response" then found.error, found.result = value(message.error), value(message.result) end
    found.meta = message.meta ~= json.null and value(message.meta) or {}
    return found
end

local function decoded(vector)
    local connection = wire.new(stream(bytes(vector.hex)), nil)
    connection.ndarray = true
    connection.max_frame = vector.max_frame or wire.MAX_FRAME
    local found = {}
    local good, problem = pcall(function()
        while true do
            local message = connection:receive()
            if not message then return end
            found[#found + 1] = described(message.kind, message)
        end
    end)
    if good then return found, nil end
    local fault = type(problem) == "table" and problem.violation or "error: " .. tostring(problem)
    if fault == "TruncatedFrame" and not vector.eof then fault = nil end -- more may come
    return found, fault
end

local file = assert(io.open("../../protocol/vectors/frames.json"))
local vectors = json.decode(file:read("a")).vectors
local failed, checked, written = 0, 0, 0

local function same(name, what, got, wanted)
    checked = checked + 1
    if got == wanted then return end
    failed = failed + 1
    io.write(name, ": ", what, "\n  got     ", tostring(got), "\n  wanted  ", tostring(wanted), "\n")
end

for _, vector in ipairs(vectors) do
    if not vector.segments then
        local messages, fault = decoded(vector)
        local expected = {}
        for at, message in ipairs(vector.messages or {}) do
            expected[at] = described(kinds[message.type], wanted_of(message))
        end
        -- A printed text is not told from a long frame in a worker.
        same(vector.name, "fault", fault, vector.error == "StdoutPolluted" and "FrameTooLarge" or vector.error)
        same(vector.name, "messages", table.concat(messages, "\n"), table.concat(expected, "\n"))
        -- The order of keys is Lua's own, so that only their number can be compared where there are several.
        if vector.encode and vector.messages[1].type ~= "response" and #vector.messages == 1 then
            local message = wanted_of(vector.messages[1])
            local parts = messagepack.array { kinds[vector.messages[1].type], message.id, message.method, message.params }
            if not message.id then parts = messagepack.array { 2, message.method, message.params } end
            if next(message.meta) then parts[#parts + 1] = message.meta end
            local payload = messagepack.encode(parts, true)
            local frame = string.pack(">I4", #payload) .. payload
            written = written + 1
            same(vector.name, "length written", #frame, #vector.hex // 2)
            if not vector.hex:find("8[2-9a-f]") and not vector.hex:find("de") then same(vector.name, "written", hex(frame), vector.hex) end
        end
    end
end
io.write(("%d checks of %d vectors, %d of them written, %d failed\n"):format(checked, #vectors, written, failed))
os.exit(failed == 0 and checked > 400 and ndarray ~= nil)
