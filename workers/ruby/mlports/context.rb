# frozen_string_literal: true

module Mlports
  # What a handler knows of the request that it works on: `Mlports.context`.
  class Context
    attr_reader :id, :config, :traceparent, :idempotency_key
    attr_accessor :input

    def initialize(connection, id, meta, config, now)
      @connection = connection
      @id = id
      @config = config
      @traceparent = meta["traceparent"]
      @idempotency_key = meta["idempotency_key"]
      left = meta["deadline_ms"]
      @expires = left.is_a?(Numeric) ? now + left / 1000.0 : nil
      @cancelled = false
    end

    # Whether nobody wants the answer any more.
    def cancelled?
      @cancelled
    end

    # Seconds that the caller will still wait; nil for as long as it takes.
    def deadline
      @expires && @expires - Mlports.now
    end

    # Raises Cancelled when nobody wants the answer any more, and Failure when its time is over.
    def check!
      raise Cancelled if @cancelled
      raise Failure.new("deadline_exceeded", "the deadline passed") if @expires && deadline <= 0
    end

    # Waits for so many seconds; raises as `check!` does, as soon as there is reason to.
    def sleep(seconds)
      ends = Mlports.now + seconds
      @connection.wait_until([ends, @expires].compact.min) { @cancelled }
      check!
      seconds
    end

    # Tells how far the work has come: numbers, and a text.
    def progress(done, total = nil, text = "")
      @connection.notify("$/progress", [@id, done, total, text]) if @id
    end

    def cancel # :nodoc:
      @cancelled = true
    end
  end

  # The request that this thread works on; nil outside of handlers.
  def self.context
    Thread.current.thread_variable_get(:mlports_context)
  end

  def self.within(context)
    Thread.current.thread_variable_set(:mlports_context, context)
    yield
  ensure
    Thread.current.thread_variable_set(:mlports_context, nil)
  end

  def self.now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
