-- Nearest centroid: learns from every other line of a table, judges the rest, prints how many it has right.
local means, labels, held, number = {}, {}, {}, 0
for line in io.lines(arg[1]) do
  local row = {}
  for field in line:gmatch("[^,]+") do row[#row + 1] = tonumber(field) end
  number = number + 1
  if number % 2 == 0 then
    held[#held + 1] = row
  else
    local label = table.remove(row)
    if not means[label] then
      means[label] = { count = 0 }
      labels[#labels + 1] = label
    end
    local mean = means[label]
    for k, value in ipairs(row) do mean[k] = (mean[k] or 0) + value end
    mean.count = mean.count + 1
  end
end
table.sort(labels)
local right = 0
for _, row in ipairs(held) do
  local best, least
  for _, label in ipairs(labels) do
    local mean, distance = means[label], 0
    for k = 1, #row - 1 do distance = distance + (row[k] - mean[k] / mean.count) ^ 2 end
    if not least or distance < least then best, least = label, distance end
  end
  if best == row[#row] then right = right + 1 end
end
print(string.format('{"right": %d, "of": %d}', right, #held))
