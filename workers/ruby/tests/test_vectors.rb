# frozen_string_literal: true

# The golden vectors of the protocol, as far as they are about bytes and values.
require "json"
require "minitest/autorun"
require "stringio"
require_relative "../mlports/mlports"

class VectorsTest < Minitest::Test
  PATH = File.expand_path("../../../protocol/vectors/frames.json", __dir__)
  FRAMES = JSON.parse(File.read(PATH), max_nesting: false)["vectors"]

  FRAMES.reject { |vector| vector.key?("segments") }.each do |vector|
    define_method("test_#{vector['name']}") { check(vector) }
  end

  private

  def check(vector)
    bytes = [vector["hex"]].pack("H*")
    messages, error = decoded(bytes, vector)
    wanted = (vector["messages"] || []).map { |message| message_of(message) }
    # A printed text is not told from a long frame in a worker.
    assert_equal wanted.inspect, messages.inspect
    fault = vector["error"]&.sub("StdoutPolluted", "FrameTooLarge")
    fault.nil? ? assert_nil(error) : assert_equal(fault, error)
    return unless vector["encode"]

    assert_equal vector["hex"], wanted.map { |message| frame(message) }.join.unpack1("H*")
  end

  # Fed byte by byte, which a pipe that is filled slowly comes to.
  def decoded(bytes, vector)
    connection = Mlports::Connection.new(Mlports::Channel.new(Slow.new(bytes), StringIO.new))
    connection.codec.ndarray = true
    connection.max_frame = vector["max_frame"] || Mlports::Connection::MAX_FRAME
    messages = []
    connection.each_message { |message| messages << plain(message) }
    [messages, nil]
  rescue Mlports::Violation => violation
    # Where the stream does not end, an end inside a frame is only the wait for more.
    [messages, violation.name == "TruncatedFrame" && !vector["eof"] ? nil : violation.name]
  end

  def plain(message)
    message.map { |part| Shown.new(part) }
  end

  def frame(message)
    codec = Mlports::Codec.new
    codec.ndarray = true
    values = message.map(&:value)
    values.pop if values.last == {} && values.size == { 0 => 5, 1 => 5, 2 => 4 }[values[0]]
    payload = codec.encode(values)
    [payload.bytesize].pack("N") + payload
  end

  def message_of(message)
    parts =
      case message["type"]
      when "request" then [0, message["id"], message["method"], value(message["params"])]
      when "response" then [1, message["id"], value(message["error"]), value(message["result"])]
      else [2, message["method"], value(message["params"])]
      end
    [*parts, value(message["meta"]) || {}].map { |part| Shown.new(part) }
  end

  def value(json)
    case json
    when Array then json.map { |item| value(item) }
    when Hash then tagged(*json.first)
    else json
    end
  end

  def tagged(tag, content)
    case tag
    when "int" then content.to_i
    when "float" then { "inf" => Float::INFINITY, "-inf" => -Float::INFINITY, "nan" => Float::NAN }.fetch(content) { content.to_f }
    when "bin" then [content].pack("H*")
    when "map" then content.to_h { |key, item| [value(key), value(item)] }
    when "timestamp" then Time.at(content[0], content[1], :nanosecond)
    when "ndarray" then Mlports::NDArray.new(content["dtype"], content["shape"], [content["hex"]].pack("H*"))
    when "ext" then MessagePack::ExtensionValue.new(content[0], [content[1]].pack("H*"))
    end
  end

  # A stream that gives one byte at a time.
  class Slow < StringIO
    def readpartial(_count)
      super(1)
    end
  end

  # A value by what tells it from all others: 1 from 1.0, str from bin, NaN like NaN.
  Shown = Struct.new(:value) do
    def inspect
      show(value)
    end

    private

    def show(part)
      case part
      when String then "#{part.encoding == Encoding::BINARY && !part.empty? ? 'bin' : 'str'}#{part.unpack1('H*')}"
      when Array then "[#{part.map { |item| show(item) }.join(',')}]"
      when Hash then "{#{part.map { |key, item| "#{show(key)}:#{show(item)}" }.join(',')}}"
      when Time then "time#{part.to_i}.#{part.nsec}"
      when Mlports::NDArray then "array#{part.dtype}#{part.shape}#{part.data.unpack1('H*')}"
      when Float then part.nan? ? "nan" : [part].pack("G").unpack1("H*")
      else part.inspect
      end
    end
  end
end
