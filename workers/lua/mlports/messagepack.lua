-- MessagePack as SPEC.md 3 has it. Written here because the library for Lua turns a nil into a hole and an empty map
-- into an array, and takes any number of bytes for text.
--
--     nil        messagepack.null inside of tables; nil by itself
--     integers   of 64 bits with a sign; above 2^63 - 1, which Lua cannot count to, tables with the metatable `uint64`,
--                whose tostring is the number
--     floats     1.0 is not 1
--     str, bin   strings: those that are UTF-8 are sent as str, all others as bin; messagepack.bytes(s) always as bin
--     array      a table with the metatable `array`, or a sequence;      map: any other table, messagepack.map(t)
--     ext        tables with the metatables `ndarray`, `timestamp`, `extension`

local messagepack = { DEEPEST = 128 } -- levels of nesting, the message's own array counted

messagepack.null = setmetatable({}, { __tostring = function() return "null" end })
messagepack.types = { array = {}, map = {}, bytes = {}, ndarray = {}, timestamp = {}, extension = {}, uint64 = {} }
local types = messagepack.types
types.bytes.__tostring = function(self) return self[1] end
types.uint64.__tostring = function(self)
    local tens = (self[1] >> 1) // 5 -- of the number without its sign: half of it, by five
    return tens .. (self[1] - tens * 10)
end

function messagepack.array(t) return setmetatable(t or {}, types.array) end
function messagepack.map(t) return setmetatable(t or {}, types.map) end
function messagepack.bytes(s) return setmetatable({ s }, types.bytes) end

local function violation(name, reason) error({ violation = name, reason = reason }, 0) end
messagepack.violation = violation

-- -- writing

local function head(count, short, most, codes)
    if count <= most then return string.char(short | count) end
    if codes[1] and count < 256 then return string.pack("BB", codes[1], count) end
    if count < 65536 then return string.pack(">BI2", codes[2], count) end
    return string.pack(">BI4", codes[3], count)
end

local function integer(n)
    if n >= 0 then
        if n < 128 then return string.char(n) end
        if n < 256 then return string.pack("BB", 0xcc, n) end
        if n < 65536 then return string.pack(">BI2", 0xcd, n) end
        if n < 4294967296 then return string.pack(">BI4", 0xce, n) end
        return string.pack(">BI8", 0xcf, n)
    end
    if n >= -32 then return string.pack("b", n) end
    if n >= -128 then return string.pack("Bb", 0xd0, n) end
    if n >= -32768 then return string.pack(">Bi2", 0xd1, n) end
    if n >= -2147483648 then return string.pack(">Bi4", 0xd2, n) end
    return string.pack(">Bi8", 0xd3, n)
end

local function text(s)
    if utf8.len(s) then return head(#s, 0xa0, 31, { 0xd9, 0xda, 0xdb }) .. s end
    return head(#s, 0, -1, { 0xc4, 0xc5, 0xc6 }) .. s
end

local fixed = { [1] = 0xd4, [2] = 0xd5, [4] = 0xd6, [8] = 0xd7, [16] = 0xd8 }

local function extension(code, data)
    local first = fixed[#data] and string.char(fixed[#data]) or head(#data, 0, -1, { 0xc7, 0xc8, 0xc9 })
    return first .. string.pack("b", code) .. data
end

local function timestamp(t)
    local seconds, nanoseconds = t[1], t[2]
    if seconds < 0 or seconds >= 1 << 34 then return extension(-1, string.pack(">I4i8", nanoseconds, seconds)) end
    if nanoseconds > 0 or seconds >= 1 << 32 then return extension(-1, string.pack(">I8", nanoseconds << 34 | seconds)) end
    return extension(-1, string.pack(">I4", seconds))
end

local write

local function sequence(t, kind)
    if kind == types.array then return #t end
    if kind == types.map then return nil end
    local count = 0
    for _ in pairs(t) do count = count + 1 end
    return count == #t and (count > 0 or next(t) == nil) and count or nil
end

local function write_table(out, value, ndarray, depth)
    local kind = getmetatable(value)
    if value == messagepack.null then out[#out + 1] = "\xc0" return end
    if kind == types.bytes then out[#out + 1] = head(#value[1], 0, -1, { 0xc4, 0xc5, 0xc6 }) .. value[1] return end
    if kind == types.uint64 then out[#out + 1] = string.pack(">Bi8", 0xcf, value[1]) return end
    if kind == types.timestamp then out[#out + 1] = timestamp(value) return end
    if kind == types.extension then out[#out + 1] = extension(value.code, value.data) return end
    if kind == types.ndarray then
        if not ndarray then error("an ndarray cannot be sent: the orchestrator takes none", 0) end
        local shape = messagepack.array({ table.unpack(value.shape) })
        out[#out + 1] = extension(1, messagepack.encode(messagepack.array({ value.dtype, shape })) .. value.data)
        return
    end
    if depth >= messagepack.DEEPEST then error("nested deeper than " .. messagepack.DEEPEST, 0) end
    local count = sequence(value, kind)
    if count then
        out[#out + 1] = head(count, 0x90, 15, { nil, 0xdc, 0xdd })
        for at = 1, count do write(out, value[at], ndarray, depth + 1) end
        return
    end
    local pairs_of = {}
    for key, item in pairs(value) do pairs_of[#pairs_of + 1] = { key, item } end
    table.sort(pairs_of, function(a, b) return tostring(a[1]) < tostring(b[1]) end)
    out[#out + 1] = head(#pairs_of, 0x80, 15, { nil, 0xde, 0xdf })
    for _, pair in ipairs(pairs_of) do
        write(out, pair[1], ndarray, depth + 1)
        write(out, pair[2], ndarray, depth + 1)
    end
end

function write(out, value, ndarray, depth)
    local kind = math.type(value) or type(value)
    if kind == "nil" then out[#out + 1] = "\xc0"
    elseif kind == "boolean" then out[#out + 1] = value and "\xc3" or "\xc2"
    elseif kind == "integer" then out[#out + 1] = integer(value)
    elseif kind == "float" then out[#out + 1] = string.pack(">Bd", 0xcb, value)
    elseif kind == "string" then out[#out + 1] = text(value)
    elseif kind == "table" then write_table(out, value, ndarray, depth)
    else error("a " .. kind .. " cannot be sent", 0)
    end
end

-- Bytes. Raises a text for a value that cannot be sent. `ndarray`: whether the other side takes them.
function messagepack.encode(value, ndarray)
    local out = {}
    write(out, value, ndarray, 0)
    return table.concat(out)
end

-- -- reading

local function malformed(reason) violation("MalformedValue", reason) end

local function take(s, at, count)
    if at + count - 1 > #s then malformed("a value that says to be longer than its frame") end
    return s:sub(at, at + count - 1), at + count
end

local function unpack_one(format, size, s, at)
    local bytes, after = take(s, at, size)
    return (string.unpack(format, bytes)), after
end

local numbers = {
    [0xca] = { ">f", 4 }, [0xcb] = { ">d", 8 }, [0xcc] = { "B", 1 }, [0xcd] = { ">I2", 2 }, [0xce] = { ">I4", 4 },
    [0xd0] = { "b", 1 }, [0xd1] = { ">i2", 2 }, [0xd2] = { ">i4", 4 }, [0xd3] = { ">i8", 8 },
}
local sizes = { { "B", 1 }, { ">I2", 2 }, { ">I4", 4 } }
local kinds = {
    [0xc4] = { "bin", 1 }, [0xc5] = { "bin", 2 }, [0xc6] = { "bin", 3 }, [0xc7] = { "ext", 1 }, [0xc8] = { "ext", 2 },
    [0xc9] = { "ext", 3 }, [0xd9] = { "str", 1 }, [0xda] = { "str", 2 }, [0xdb] = { "str", 3 },
    [0xdc] = { "array", 2 }, [0xdd] = { "array", 3 }, [0xde] = { "map", 2 }, [0xdf] = { "map", 3 },
}

local read

local function read_text(s, at, count)
    local found, after = take(s, at, count)
    if not utf8.len(found) then malformed("a str that is not UTF-8") end
    return found, after
end

local function room(s, at, count, depth)
    if depth >= messagepack.DEEPEST then malformed("nested deeper than " .. messagepack.DEEPEST) end
    if at + count - 1 > #s then malformed("a value that says to be longer than its frame") end
end

local function read_array(s, at, count, ndarray, depth)
    room(s, at, count, depth)
    local found = messagepack.array()
    for place = 1, count do
        local item
        item, at = read(s, at, ndarray, depth + 1)
        if item == nil then item = messagepack.null end
        found[place] = item
    end
    return found, at
end

local function read_map(s, at, count, ndarray, depth)
    room(s, at, 2 * count, depth)
    local found = messagepack.map()
    for _ = 1, count do
        local key, item
        key, at = read(s, at, false, depth + 1)
        local kind = getmetatable(key)
        if kind == types.array or kind == types.map then malformed("an array or a map as a key") end
        if kind == types.bytes then key = key[1] end
        item, at = read(s, at, ndarray, depth + 1)
        if key == nil then key = messagepack.null end
        if item == nil then item = messagepack.null end
        if key == key then found[key] = item end -- NaN is no key in Lua
    end
    return found, at
end

local function read_timestamp(data)
    local seconds, nanoseconds
    if #data == 4 then seconds, nanoseconds = string.unpack(">I4", data), 0
    elseif #data == 8 then
        local both = string.unpack(">i8", data)
        seconds, nanoseconds = both & (1 << 34) - 1, both >> 34
    elseif #data == 12 then nanoseconds, seconds = string.unpack(">I4i8", data)
    else malformed("a timestamp of " .. #data .. " bytes")
    end
    if nanoseconds > 999999999 then malformed("a timestamp with " .. nanoseconds .. " nanoseconds") end
    return setmetatable({ seconds, nanoseconds }, types.timestamp)
end

local function read_ndarray(data)
    local good, shape_and_type, after = pcall(read, data, 1, false, 0)
    if not good or getmetatable(shape_and_type) ~= types.array or #shape_and_type ~= 2 then
        violation("InvalidExtension", "an ndarray without dtype and shape")
    end
    local dtype, shape = table.unpack(shape_and_type)
    local size, left = messagepack.ndarray.elements(shape) * messagepack.ndarray.item_size(dtype), #data - after + 1
    if size ~= left then violation("InvalidExtension", left .. " bytes for an ndarray of " .. size) end
    return setmetatable({ dtype = dtype, shape = shape, data = data:sub(after) }, types.ndarray)
end

local function read_extension(s, at, count, ndarray)
    local code, data
    code, at = unpack_one("b", 1, s, at)
    data, at = take(s, at, count)
    if code == -1 then return read_timestamp(data), at end
    if code == 1 and ndarray then return read_ndarray(data), at end
    if code >= 1 and code <= 3 then violation("InvalidExtension", "extension " .. code .. ", which was not agreed") end
    return setmetatable({ code = code, data = data }, types.extension), at
end

function read(s, at, ndarray, depth)
    local byte
    byte, at = unpack_one("B", 1, s, at)
    if byte < 0x80 then return byte, at end
    if byte >= 0xe0 then return byte - 256, at end
    if byte < 0x90 then return read_map(s, at, byte & 15, ndarray, depth) end
    if byte < 0xa0 then return read_array(s, at, byte & 15, ndarray, depth) end
    if byte < 0xc0 then return read_text(s, at, byte & 31) end
    if numbers[byte] then return unpack_one(numbers[byte][1], numbers[byte][2], s, at) end
    if byte == 0xc0 then return nil, at end
    if byte == 0xc2 or byte == 0xc3 then return byte == 0xc3, at end
    if byte == 0xcf then
        local n, after = unpack_one(">i8", 8, s, at)
        return n < 0 and setmetatable({ n }, types.uint64) or n, after
    end
    if byte >= 0xd4 and byte <= 0xd8 then return read_extension(s, at, 1 << byte - 0xd4, ndarray) end
    local kind, count = kinds[byte], nil
    if not kind then malformed("the byte c1") end
    count, at = unpack_one(sizes[kind[2]][1], sizes[kind[2]][2], s, at)
    if kind[1] == "str" then return read_text(s, at, count) end
    if kind[1] == "array" then return read_array(s, at, count, ndarray, depth) end
    if kind[1] == "map" then return read_map(s, at, count, ndarray, depth) end
    if kind[1] == "ext" then return read_extension(s, at, count, ndarray) end
    local bytes
    bytes, at = take(s, at, count)
    return messagepack.bytes(bytes), at
end

-- The one value in a frame's payload. Raises a violation. `ndarray`: whether arrays were agreed.
function messagepack.decode(payload, ndarray)
    local value, after = read(payload, 1, ndarray, 0)
    if after <= #payload then violation("TrailingBytes", "bytes behind the value in a frame") end
    return value
end

return messagepack
