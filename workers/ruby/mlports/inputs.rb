# frozen_string_literal: true

module Mlports
  # The streamed argument of one request, to be gone through once. The caller may send only what it was given credit
  # for: nothing before the first item is asked for, and no more ahead than AHEAD.
  class Input
    include Enumerable

    AHEAD = 16

    def initialize(connection, context)
      @connection = connection
      @context = context
      @items = []
      @credit = 0
      @ended = false
      @broken = false
    end

    def each
      return enum_for(:each) unless block_given?

      loop do
        grant
        @connection.wait_until(nil) { !@items.empty? || @ended || @broken || @context.cancelled? }
        @context.check!
        if @items.empty?
          raise Failure.new("unavailable", "the streamed argument was cut off") if @broken

          return
        end
        yield @items.shift
      end
    end

    # What the reader is told.

    def add(item)
      raise Violation.new("CreditExceeded", "an item of the streamed argument beyond its credit") if @credit.zero?

      @credit -= 1
      @items << item
    end

    def finish
      @ended = true
    end

    def break_off
      @broken = true unless @ended
    end

    private

    def grant
      return if @ended || @credit + @items.size > AHEAD / 2

      more = AHEAD - @credit - @items.size
      @credit += more
      @connection.notify("$/input_credit", [@context.id, more])
    end
  end
end
