# frozen_string_literal: true

# The methods by which `mlports check` looks more closely at an SDK.
require_relative "../mlports/mlports"

worker = Mlports::Worker.new("conformance")
kept = []

worker.method("echo", idempotent: true) { |value| value }
worker.method("add", idempotent: true) { |a, b| a + b }
worker.method("fail") { |message| raise ArgumentError, message }
worker.method("refuse") { |code, message| raise Mlports::Failure.new(code, message) }
worker.method("sleep") { |seconds| Mlports.context.sleep(seconds) }

worker.method("print") do |text|
  puts text
  nil
end

worker.batch("root", idempotent: true) do |xs|
  xs.map { |x| x.negative? ? Mlports::Failure.new("invalid_argument", "#{x} has no square root") : Math.sqrt(x) }
end

worker.stream("count") { |n| (0...n) }
worker.method("total", input: true) { |numbers| numbers.sum }
worker.method("relay") { |target, params| worker.call(target, *params) }

worker.method("note") do |level, text|
  worker.log(level, text)
  nil
end

worker.method("advance") do |n|
  (1..n).each { |done| Mlports.context.progress(done, n) }
  n
end

worker.method("mark") { |value| kept << value }
worker.method("marks") { kept }

worker.run
