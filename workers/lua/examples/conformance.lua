-- The methods by which `mlports check` looks more closely at an SDK.
package.path = "mlports/?.lua;" .. package.path
local mlports = require "mlports"

local worker = mlports.worker("conformance")
local kept = mlports.array()
local idempotent = { idempotent = true }

worker:method("echo", function(_, value) return value end, idempotent)
worker:method("add", function(_, a, b) return a + b end, idempotent)
worker:method("fail", function(_, message) error(message, 0) end)
worker:method("refuse", function(_, code, message) error(mlports.failure(code, message), 0) end)

worker:method("sleep", function(_, seconds)
    os.execute(("sleep %.3f"):format(seconds))
    return seconds
end)

worker:method("print", function(_, text) print(text) end)

worker:batch("root", function(_, xs)
    local roots = {}
    for at, x in ipairs(xs) do
        roots[at] = x < 0 and mlports.failure("invalid_argument", x .. " has no square root") or math.sqrt(x)
    end
    return roots
end, idempotent)

worker:stream("count", function(request, n)
    for number = 0, n - 1 do request:emit(number) end
end)

worker:method("total", function(request)
    local sum = 0
    for item in request:input() do sum = sum + item end
    return sum
end, { input = true })

worker:method("relay", function(request, target, params) return worker:call(request, target, table.unpack(params)) end)
worker:method("note", function(_, level, text) worker:log(level, text) end)

worker:method("advance", function(request, n)
    for done = 1, n do request:progress(done, n) end
    return n
end)

worker:method("mark", function(_, value) kept[#kept + 1] = value end)
worker:method("marks", function() return kept end)

worker:run()
