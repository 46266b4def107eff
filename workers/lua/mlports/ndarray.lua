-- N-dimensional arrays (SPEC.md 12.1): tables with `dtype` such as "<f8" (or the fields of a record), `shape`, and
-- `data`, the elements' bytes, row-major and little-endian.

local messagepack = require "messagepack"

local ndarray = {}
messagepack.ndarray = ndarray

local formats = {
    ["<f4"] = "<f", ["<f8"] = "<d", ["|i1"] = "b", ["|u1"] = "B", ["|b1"] = "B", ["<i2"] = "<i2", ["<u2"] = "<I2",
    ["<i4"] = "<i4", ["<u4"] = "<I4", ["<i8"] = "<i8", ["<u8"] = "<i8",
}
local item_sizes = { ["|b1"] = 1, ["|i1"] = 1, ["|u1"] = 1 }
for _, name in ipairs { "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16" } do
    item_sizes["<" .. name] = math.tointeger(tonumber(name:sub(2)))
end
local units = {}
for unit in ("Y M W D h m s ms us ns ps fs as"):gmatch("%a+") do units[unit] = true end

local function wrong(what) messagepack.violation("InvalidExtension", "the " .. what .. " of an ndarray") end

-- How many elements an array of this shape has; a float where that overflows. Raises a violation.
function ndarray.elements(shape)
    if type(shape) ~= "table" or #shape > 64 then wrong("shape") end
    local count = 1.0
    for _, size in ipairs(shape) do
        if math.type(size) ~= "integer" or size < 0 then wrong("shape") end
        count = count * size
    end
    return math.tointeger(count) or count
end

local function record_size(fields, depth)
    if #fields == 0 or depth == 8 then wrong("dtype") end
    local size, seen = 0, {}
    for _, field in ipairs(fields) do
        if type(field) ~= "table" or #field < 2 or #field > 3 then wrong("dtype") end
        local name = field[1]
        if type(name) ~= "string" or name == "" or seen[name] then wrong("dtype") end
        seen[name] = true
        size = size + ndarray.item_size(field[2], depth + 1) * ndarray.elements(field[3] or {})
    end
    return size
end

-- Bytes of one element. Raises a violation.
function ndarray.item_size(dtype, depth)
    if getmetatable(dtype) == messagepack.types.array then return record_size(dtype, depth or 0) end
    if type(dtype) ~= "string" then wrong("dtype") end
    if item_sizes[dtype] then return item_sizes[dtype] end
    local unit = dtype:match("^<[mM]8%[%d*(%a+)%]$")
    if dtype == "<m8" or dtype == "<M8" or unit and units[unit] then return 8 end
    local kind, count = dtype:match("^(..)([1-9]%d*)$")
    if not kind or #count > 10 or not (kind == "<U" or kind == "|S" or kind == "|V") then wrong("dtype") end
    return math.tointeger(tonumber(count)) * (kind == "<U" and 4 or 1)
end

local function flatten(nested, out)
    if type(nested) ~= "table" then out[#out + 1] = nested return out end
    for _, item in ipairs(nested) do flatten(item, out) end
    return out
end

-- From nested sequences of numbers; dtype "<f8" unless given. Raises a text where rows differ in length.
function ndarray.from(nested, dtype)
    dtype = dtype or "<f8"
    local shape, level = messagepack.array(), nested
    while type(level) == "table" do
        shape[#shape + 1] = #level
        level = level[1]
    end
    local flat, format = flatten(nested, {}), formats[dtype]
    if not format then error("this SDK does not put " .. dtype .. " together", 0) end
    if #flat ~= ndarray.elements(shape) then error("rows of different lengths make no array", 0) end
    local packed = {}
    for at, number in ipairs(flat) do packed[at] = string.pack(format, number) end
    return setmetatable({ dtype = dtype, shape = shape, data = table.concat(packed) }, messagepack.types.ndarray)
end

-- Nested sequences of numbers; one number for shape []. Raises a text for other dtypes than numbers'.
function ndarray.values(array)
    local format = formats[array.dtype]
    if not format then error("this SDK does not take " .. tostring(array.dtype) .. " apart: use its data", 0) end
    local at = 1
    local function level(depth)
        if depth > #array.shape then
            local number
            number, at = string.unpack(format, array.data, at)
            return number
        end
        local items = {}
        for place = 1, array.shape[depth] do items[place] = level(depth + 1) end
        return items
    end
    return level(1)
end

return ndarray
