-- A worker: a program whose methods mlports calls, in a process of its own.
package.path = "mlports/?.lua;" .. package.path
local mlports = require "mlports"

local worker = mlports.worker("@NAME@")
local line = {}

-- Called once, before the first call, with `config` from mlports.toml: the place to load a model.
worker:setup(function(config)
    line = { slope = config.slope or 1.0, intercept = config.intercept or 0.0 }
end)

-- A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol.
worker:method("describe", function()
    print("somebody asked what this is")
    return { kind = "line", slope = line.slope, intercept = line.intercept }
end)

-- A batch method: a list of arguments in, as many results out, so that a model can work on many at once.
-- A failure in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
worker:batch("predict", function(_, xs)
    local ys = {}
    for at, x in ipairs(xs) do
        ys[at] = math.type(x) and line.slope * x + line.intercept
            or mlports.failure("invalid_argument", "a number is needed, not " .. tostring(x))
    end
    return ys
end, { idempotent = true })

-- A stream method: each item is sent when it is emitted, which waits until the caller takes it.
worker:stream("steps", function(request, n, seconds)
    for number = 1, n do
        os.execute(("sleep %f"):format(seconds or 0.1)) -- Lua itself cannot wait
        request:progress(number, n)
        request:emit(number)
    end
end)

worker:run()
