# frozen_string_literal: true

require "msgpack"

module Mlports
  # Values as MessagePack. Strings in UTF-8 are str, binary ones bin; 1 and 1.0 stay what they are.
  class Codec
    DEEPEST = 128 # levels of nesting, the message's own array counted: as many as the library has room for

    attr_accessor :ndarray

    def initialize
      @ndarray = false
      @factory = MessagePack::Factory.new
      @factory.register_type(-1, Time, packer: MessagePack::Time::Packer, unpacker: ->(data) { read_time(data) })
      @factory.register_type(1, NDArray, packer: ->(array) { write_array(array) }, unpacker: ->(data) { read_array(data) })
      [2, 3].each do |code|
        refuse = ->(_) { raise Violation.new("InvalidExtension", "extension #{code}, which was not agreed") }
        @factory.register_type(code, Class.new, packer: refuse, unpacker: refuse)
      end
    end

    # Bytes. Raises Unsendable.
    def encode(value)
      @factory.packer.write(value).to_s
    rescue Violation, RangeError, NoMethodError, MessagePack::Error, TypeError, ArgumentError => error
      raise Unsendable, Mlports.one_line("#{error.class}: #{error.message}")
    end

    # The one value in a frame's payload. Raises Violation.
    def decode(payload)
      Lengths.check(payload)
      unpacker = @factory.unpacker(allow_unknown_ext: true)
      unpacker.feed(payload)
      value = unpacker.read
      check(value, 0)
      begin
        unpacker.skip
      rescue EOFError
        return value
      end
      raise Violation.new("TrailingBytes", "bytes behind the value in a frame")
    rescue EOFError
      raise Violation.new("MalformedValue", "the value ends before its frame does, or the other way round")
    rescue MessagePack::UnpackError, MessagePack::MalformedFormatError => error
      raise Violation.new("MalformedValue", error.message)
    end

    private

    def check(value, depth)
      case value
      when String
        malformed("a str that is not UTF-8") unless value.valid_encoding?
      when Array
        malformed("nested deeper than #{DEEPEST}") if depth >= DEEPEST
        value.each { |item| check(item, depth + 1) }
      when Hash
        malformed("nested deeper than #{DEEPEST}") if depth >= DEEPEST
        value.each do |key, item|
          malformed("an array or a map as a key") if key.is_a?(Array) || key.is_a?(Hash)
          check(key, depth + 1)
          check(item, depth + 1)
        end
      end
    end

    def malformed(reason)
      raise Violation.new("MalformedValue", reason)
    end

    def read_time(data)
      seconds, nanoseconds =
        case data.bytesize
        when 4 then [data.unpack1("N"), 0]
        when 8 then [data.unpack1("Q>") & 0x3ffffffff, data.unpack1("Q>") >> 34]
        when 12 then [data[4, 8].unpack1("q>"), data.unpack1("N")]
        else malformed("a timestamp of #{data.bytesize} bytes")
        end
      malformed("a timestamp with #{nanoseconds} nanoseconds") if nanoseconds > 999_999_999
      Time.at(seconds, nanoseconds, :nanosecond)
    end

    def write_array(array)
      raise ArgumentError, "an ndarray cannot be sent: the orchestrator takes none" unless @ndarray

      [array.dtype, array.shape].to_msgpack + array.data.b
    end

    def read_array(data)
      invalid("an ndarray, which was not agreed") unless @ndarray
      unpacker = MessagePack::Unpacker.new
      unpacker.feed(data)
      head = unpacker.read
      invalid("an ndarray without dtype and shape") unless head.is_a?(Array) && head.size == 2
      dtype, shape = head
      size = NDArray.elements(shape) * NDArray.item_size(dtype)
      head_size = data.bytesize - size
      invalid("#{data.bytesize} bytes for an ndarray of #{size}") unless head_size.positive? && only_head?(data, head_size)
      NDArray.new(dtype, shape, data.byteslice(head_size, size))
    rescue EOFError, MessagePack::UnpackError
      invalid("an ndarray without dtype and shape")
    end

    def only_head?(data, size)
      unpacker = MessagePack::Unpacker.new
      unpacker.feed(data.byteslice(0, size))
      unpacker.skip
      begin
        unpacker.skip
        false
      rescue EOFError
        true
      end
    rescue EOFError
      false
    end

    def invalid(reason)
      raise Violation.new("InvalidExtension", reason)
    end
  end

  # A value that MessagePack cannot carry.
  class Unsendable < StandardError
  end
end
