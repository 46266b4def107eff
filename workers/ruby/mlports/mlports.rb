# frozen_string_literal: true

# The SDK for worker programs in Ruby. It needs the gem msgpack alone.
#
#     require_relative "mlports/mlports"
#
#     worker = Mlports::Worker.new("digits")
#     worker.method("double") { |x| 2 * x }
#     worker.run
#
# Require it first: from then on standard output belongs to the protocol, and what prints prints on standard error.
module Mlports
  VERSION = "0.1.0"
end

require_relative "errors"
require_relative "stdio"
require_relative "ndarray"
require_relative "lengths"
require_relative "codec"
require_relative "context"
require_relative "inputs"
require_relative "connection"
require_relative "calls"
require_relative "worker"

Mlports.take_channel if ENV["MLPORTS_WORKER"] == "1"
