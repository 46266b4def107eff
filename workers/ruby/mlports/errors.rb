# frozen_string_literal: true

module Mlports
  # An error with a chosen code, for the caller of a method: raise it, or put it in an item's place in a batch.
  # `code` is one of SPEC.md 4.4; `retryable` promises that the request had no effect.
  class Failure < StandardError
    attr_reader :code, :data, :retryable

    def initialize(code, message, data: nil, retryable: false)
      super(message)
      @code = code
      @data = data
      @retryable = retryable
    end
  end

  # Nobody waits for the answer any more.
  class Cancelled < Failure
    def initialize(message = "the caller does not want the answer any more")
      super("cancelled", message)
    end
  end

  # A call to another service failed: with its error's code, message and data.
  class CallFailed < Failure
  end

  # The orchestrator broke the protocol; `name` is SPEC.md 13's. It ends the worker.
  class Violation < StandardError
    attr_reader :name

    def initialize(name, reason)
      super("#{name}: #{reason}")
      @name = name
    end
  end

  # The protocol's error map for what a handler raised.
  def self.error_map(error)
    if error.is_a?(Failure)
      map = { "code" => error.code, "message" => one_line(error.message) }
      map["data"] = error.data unless error.data.nil?
      map["retryable"] = true if error.retryable
      return map
    end
    type = error.class.name || "Exception"
    trace = error.full_message(highlight: false, order: :top).dup.force_encoding("UTF-8").scrub
    { "code" => "unknown", "message" => one_line("#{type}: #{error.message}"),
      "data" => { "type" => type, "traceback" => trace } }
  end

  def self.one_line(text)
    text.to_s.dup.force_encoding("UTF-8").scrub.split.join(" ")[0, 1000]
  end
end
