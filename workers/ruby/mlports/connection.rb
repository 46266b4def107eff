# frozen_string_literal: true

module Mlports
  # Frames in, frames out, for one worker. One thread reads; any thread writes whole frames.
  class Connection
    MAX_FRAME = 67_108_864
    READ_SIZE = 65_536

    attr_reader :codec, :lock
    attr_accessor :max_frame, :peer_max_frame

    def initialize(channel)
      @input, @output = channel.to_a
      @codec = Codec.new
      @max_frame = @peer_max_frame = MAX_FRAME
      @buffer = "".b
      @writing = Mutex.new
      @lock = Monitor.new # over the state of requests, which the reader and the handlers share
      @changed = @lock.new_cond
    end

    # Yields each message as it comes; returns at the end of the stream. Raises Violation.
    def each_message
      while (payload = next_payload)
        yield check_message(@codec.decode(payload))
      end
    end

    # Writes one message. Raises Unsendable for a value that cannot be sent, and TooLong.
    def send(message)
      payload = @codec.encode(message)
      if payload.bytesize > @peer_max_frame
        raise TooLong, "#{payload.bytesize} bytes, and the orchestrator takes frames of #{@peer_max_frame} (max_frame)"
      end
      frame = [payload.bytesize].pack("N") << payload
      @writing.synchronize { @output.write(frame) }
    rescue Errno::EPIPE, Errno::EBADF, IOError
      exit!(1) # nobody reads any more, and there is nobody to tell
    end

    def notify(method, params)
      send([2, method, params])
    end

    # Answers a request, whatever it takes: a result that cannot be sent becomes an error.
    def answer(id, error, result)
      send([1, id, error, result])
    rescue TooLong => problem
      send([1, id, { "code" => "resource_exhausted", "message" => "the answer is too long: #{problem.message}" }, nil])
    rescue Unsendable => problem
      text = "the answer cannot be sent: #{problem.message}"
      send([1, id, { "code" => "internal", "message" => Mlports.one_line(text) }, nil])
    end

    # Returns when the block gives something true, or at the time `ends` (Mlports.now; nil: never).
    def wait_until(ends)
      @lock.synchronize do
        until yield
          left = ends && ends - Mlports.now
          return if left && left <= 0

          @changed.wait(left)
        end
      end
    end

    # Changes the state in the block, and has everybody look who waits for it.
    def change
      @lock.synchronize do
        result = yield
        @changed.broadcast
        result
      end
    end

    private

    def next_payload
      head = read(4, may_end: true) or return nil
      length = head.unpack1("N")
      raise Violation.new("EmptyFrame", "a frame of length 0") if length.zero?
      raise Violation.new("FrameTooLarge", "a frame of #{length} bytes; at most #{@max_frame}") if length > @max_frame

      read(length)
    end

    def read(count, may_end: false)
      while @buffer.bytesize < count
        begin
          @buffer << @input.readpartial([READ_SIZE, count - @buffer.bytesize].max)
        rescue EOFError
          return nil if may_end && @buffer.empty?

          raise Violation.new("TruncatedFrame", "the input ends inside a frame")
        end
      end
      @buffer.slice!(0, count)
    end

    # The message, with str where SPEC.md 3.4 lets a bin stand for it, and meta always a Hash.
    def check_message(message)
      invalid("not an array") unless message.is_a?(Array) && message[0].is_a?(Integer)
      case message[0]
      when 0
        invalid("a request of #{message.size} elements") if message.size < 4
        [0, check_id(message[1]), check_method(message[2]), check_params(message[3]), check_meta(message[4])]
      when 1
        invalid("a response of #{message.size} elements") if message.size < 4
        [1, check_id(message[1]), check_error(message[2], message[3]), message[3], check_meta(message[4])]
      when 2
        invalid("a notification of #{message.size} elements") if message.size < 3
        [2, check_method(message[1]), check_params(message[2]), check_meta(message[3])]
      else
        invalid("its first element is #{message[0]}")
      end
    end

    def check_id(id)
      id.is_a?(Integer) && id.between?(0, 2**53 - 1) ? id : invalid("an id of #{id.inspect[0, 40]}")
    end

    def check_method(method)
      name = text(method)
      name.nil? || name.empty? ? invalid("a method of #{method.inspect[0, 40]}") : name
    end

    def check_params(params)
      params.is_a?(Array) ? params : invalid("params that are no array")
    end

    def check_meta(meta)
      return {} if meta.nil?

      meta = text_keys(meta) || invalid("meta that is no map of strings")
      deadline = meta["deadline_ms"]
      good = deadline.nil? || (deadline.is_a?(Numeric) && deadline >= 0)
      good ? meta : invalid("a deadline_ms of #{deadline.inspect[0, 40]}")
    end

    def check_error(error, result)
      return if error.nil?

      map = text_keys(error)
      code, message = map && [text(map["code"]), text(map["message"])]
      good = code && message && result.nil? && [nil, true, false].include?(map["retryable"])
      good ? map.merge("code" => code, "message" => message) : invalid("an error without code and message, or with a result")
    end

    # nil for what is no map of strings.
    def text_keys(map)
      return unless map.is_a?(Hash)

      texts = map.transform_keys { |key| text(key) }
      texts unless texts.key?(nil)
    end

    # A string, also one that came as bin; nil for anything else.
    def text(value)
      return unless value.is_a?(String)
      return value if value.encoding == Encoding::UTF_8

      text = value.dup.force_encoding(Encoding::UTF_8)
      text if text.valid_encoding?
    end

    def invalid(what)
      raise Violation.new("InvalidMessage", what)
    end
  end

  # A message that is longer than the orchestrator's max_frame.
  class TooLong < Unsendable
  end
end
