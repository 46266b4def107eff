-- As much of JSON as the vectors need: a table for each value, with null as `json.null`.
local json = { null = {} }
local value

local function skip(s, at) return s:find("[^%s]", at) end

local escapes = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function text(s, at)
    local out = {}
    while true do
        local stop = s:find('["\\]', at)
        out[#out + 1] = s:sub(at, stop - 1)
        if s:sub(stop, stop) == '"' then return table.concat(out), stop + 1 end
        local kind = s:sub(stop + 1, stop + 1)
        if kind == "u" then
            local code = tonumber(s:sub(stop + 2, stop + 5), 16)
            at = stop + 6
            if code >= 0xd800 and code < 0xdc00 then
                code = 0x10000 + ((code - 0xd800) << 10) + tonumber(s:sub(at + 2, at + 5), 16) - 0xdc00
                at = at + 6
            end
            out[#out + 1] = utf8.char(code)
        else
            out[#out + 1] = escapes[kind] or kind
            at = stop + 2
        end
    end
end

local function members(s, at, close, each)
    at = skip(s, at)
    if s:sub(at, at) == close then return at + 1 end
    while true do
        at = skip(s, each(at))
        if s:sub(at, at) == close then return at + 1 end
        at = skip(s, at + 1)
    end
end

function value(s, at)
    at = skip(s, at)
    local first = s:sub(at, at)
    if first == '"' then return text(s, at + 1) end
    if first == "[" then
        local array = { is_array = true }
        return array, members(s, at + 1, "]", function(place)
            array[#array + 1], place = value(s, place)
            return place
        end)
    end
    if first == "{" then
        local map = {}
        return map, members(s, at + 1, "}", function(place)
            local key
            key, place = text(s, place + 1)
            map[key], place = value(s, skip(s, place) + 1)
            return place
        end)
    end
    local word = s:match("^[%w.+-]+", at)
    local known = { ["true"] = true, ["false"] = false, null = json.null }
    if known[word] ~= nil then return known[word], at + #word end
    return tonumber(word), at + #word
end

function json.decode(s) return (value(s, 1)) end

return json
