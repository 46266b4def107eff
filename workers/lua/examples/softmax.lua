-- Softmax regression (multinomial logistic regression) by gradient descent over all rows at once.
--
-- Scores z = W x + b, probabilities exp(z) / Σ exp(z), loss the mean of -ln p(label); its gradient is (p - 1[label]) x,
-- averaged: Bishop, Pattern Recognition and Machine Learning, 4.3.4. It starts from zeros, so nothing is random.
package.path = "mlports/?.lua;" .. package.path
local mlports = require "mlports"

local worker = mlports.worker("softmax")
local model

local function wrong(text) error(mlports.failure("invalid_argument", text), 0) end

local function zeros(rows, columns)
    local matrix = {}
    for row = 1, rows do
        matrix[row] = {}
        for column = 1, columns do matrix[row][column] = 0.0 end
    end
    return matrix
end

-- The probability of each class for a row whose last element is 1, for the intercept.
local function probabilities(weights, row)
    local scores, most, sum = {}, -math.huge, 0
    for class, of_class in ipairs(weights) do
        local score = 0
        for at, x in ipairs(row) do score = score + of_class[at] * x end
        scores[class], most = score, math.max(most, score)
    end
    for class, score in ipairs(scores) do
        scores[class] = math.exp(score - most)
        sum = sum + scores[class]
    end
    for class in ipairs(scores) do scores[class] = scores[class] / sum end
    return scores
end

local function scaled(row, scale)
    local found = {}
    for at, x in ipairs(row) do found[at] = x / scale end
    found[#found + 1] = 1.0
    return found
end

local function classes_of(labels)
    local seen, classes, place = {}, mlports.array(), {}
    for _, label in ipairs(labels) do
        if not seen[label] then classes[#classes + 1] = label end
        seen[label] = true
    end
    table.sort(classes)
    for at, label in ipairs(classes) do place[label] = at end
    return classes, place
end

local function step(weights, rows, targets, rate)
    local gradient = zeros(#weights, #rows[1])
    for number, row in ipairs(rows) do
        for class, p in ipairs(probabilities(weights, row)) do
            local error_of, of_class = p - (class == targets[number] and 1 or 0), gradient[class]
            for at, x in ipairs(row) do of_class[at] = of_class[at] + error_of * x end
        end
    end
    for class, of_class in ipairs(weights) do
        for at, sum in ipairs(gradient[class]) do of_class[at] = of_class[at] - rate * sum / #rows end
    end
end

-- x: rows of numbers; y: a label for each. steps and rate are those of the descent, scale divides every number.
local function fit(x, y, steps, rate, scale)
    if #x ~= #y or #x == 0 then wrong(#x .. " rows and " .. #y .. " labels") end
    steps, rate, scale = steps or 30, rate or 1.0, scale or 16.0
    local classes, place = classes_of(y)
    local rows, targets = {}, {}
    for at, row in ipairs(x) do
        if #row ~= #x[1] then wrong("rows of different lengths") end
        rows[at], targets[at] = scaled(row, scale), place[y[at]]
    end
    local weights = zeros(#classes, #rows[1])
    for _ = 1, steps do step(weights, rows, targets, rate) end
    model = { classes = classes, weights = weights, scale = scale, width = #x[1] }
    return { classes = classes, weights = weights, steps = steps }
end

local function predict(x)
    if not model then error(mlports.failure("failed_precondition", "no model yet: call fit, or set config data"), 0) end
    local labels = mlports.array()
    for at, row in ipairs(x) do
        if #row ~= model.width then wrong("a row of " .. #row .. " features, and the model has " .. model.width) end
        local best, most = 1, -1
        for class, p in ipairs(probabilities(model.weights, scaled(row, model.scale))) do
            if p > most then best, most = class, p end
        end
        labels[at] = model.classes[best]
    end
    return labels
end

worker:setup(function(config)
    if not config.data then return end
    local x, y = {}, {}
    for line in io.lines(config.data) do
        local row = {}
        for number in line:gmatch("[^,]+") do row[#row + 1] = tonumber(number) end
        y[#y + 1] = math.tointeger(table.remove(row))
        x[#x + 1] = row
    end
    fit(x, y)
end)

local idempotent = { idempotent = true }
worker:method("fit", function(_, ...) return fit(...) end, idempotent)
worker:method("predict", function(_, x) return predict(x) end, idempotent)

worker:method("vote", function(_, record)
    record.votes = record.votes or mlports.map()
    record.votes.lua = predict(record.x)
    return record
end, idempotent)

worker:run()
