# frozen_string_literal: true

module Mlports
  # The calls that this worker's handlers make of other services.
  class Calls
    def initialize(connection)
      @connection = connection
      @next = 0
      @open = {} # id => its answer, nil until it has come
    end

    # The result of "service.method". `timeout` in seconds; the caller's own deadline holds too. Raises CallFailed.
    def call(target, params, timeout: nil)
      context = Mlports.context
      left = [timeout, context&.deadline].compact.min
      id = @connection.lock.synchronize do
        @open[@next] = nil
        (@next += 1) - 1
      end
      @connection.send([0, id, target, params, meta(context, left)].then { |call| call[4].empty? ? call[0, 4] : call })
      wait(id, target, context, left && Mlports.now + left)
    ensure
      @connection.lock.synchronize { @open.delete(id) } if id
    end

    # Sends a message that nobody answers.
    def cast(target, params)
      @connection.notify(target, params)
    end

    # What the reader is told.
    def on_answer(id, error, result)
      @connection.change do
        unless @open.key?(id) && @open[id].nil?
          # Those that were given up are answered too, and counted as made.
          raise Violation.new("UnknownId", "an answer to request #{id}, which was never made") if id >= @next

          next
        end
        @open[id] = [error, result]
      end
    end

    private

    def meta(context, left)
      { "deadline_ms" => left && [left * 1000, 0].max, "traceparent" => context&.traceparent, "parent" => context&.id }.compact
    end

    def wait(id, target, context, ends)
      @connection.wait_until(ends) { @open[id] || context&.cancelled? }
      answer = @connection.lock.synchronize { @open[id] }
      if answer.nil?
        @connection.notify("$/cancel", [id])
        raise Cancelled if context&.cancelled?

        raise CallFailed.new("deadline_exceeded", "#{target} did not answer in time")
      end
      error, result = answer
      return result if error.nil?

      raise CallFailed.new(error["code"], error["message"], data: error["data"], retryable: error["retryable"] == true)
    end
  end
end
