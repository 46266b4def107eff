# frozen_string_literal: true

# A worker: a program whose methods mlports calls, in a process of its own.
require_relative "mlports/mlports"

worker = Mlports::Worker.new("@NAME@")
line = {}

# Called once, before the first call, with `config` from mlports.toml: the place to load a model.
worker.setup do |config|
  line["slope"] = config.fetch("slope", 1.0)
  line["intercept"] = config.fetch("intercept", 0.0)
end

# A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol.
worker.method("describe") do
  puts "somebody asked what this is"
  { "kind" => "line", **line }
end

# A batch method: a list of arguments in, as many results out, so that a model can work on many at once.
# A failure in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
worker.batch("predict", idempotent: true) do |xs|
  xs.map do |x|
    next Mlports::Failure.new("invalid_argument", "a number is needed, not #{x.inspect}") unless x.is_a?(Numeric)

    line["slope"] * x + line["intercept"]
  end
end

# What a stream method gives is sent item by item, only as fast as it is read.
worker.stream("steps") do |n, seconds = 0.1|
  (1..n).lazy.map do |number|
    Mlports.context.sleep(seconds)
    Mlports.context.progress(number, n)
    number
  end
end

worker.run
