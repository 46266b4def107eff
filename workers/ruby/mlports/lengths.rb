# frozen_string_literal: true

module Mlports
  # Lengths that a payload claims, held against its own before anything is made for them: the library makes room first
  # and reads then, and four bytes can claim four gigabytes.
  module Lengths
    LONG = /[\xc6\xc9\xdb\xdd\xdf]/n.freeze # headers with a length of 32 bits; shorter ones cannot claim much
    FIXED = { 0xca => 4, 0xcb => 8, 0xcc => 1, 0xcd => 2, 0xce => 4, 0xcf => 8, 0xd0 => 1, 0xd1 => 2, 0xd2 => 4,
              0xd3 => 8, 0xd4 => 2, 0xd5 => 3, 0xd6 => 5, 0xd7 => 9, 0xd8 => 17 }.freeze
    BYTES = { 0xc4 => [1, 0], 0xc5 => [2, 0], 0xc6 => [4, 0], 0xc7 => [1, 1], 0xc8 => [2, 1], 0xc9 => [4, 1],
              0xd9 => [1, 0], 0xda => [2, 0], 0xdb => [4, 0] }.freeze
    ITEMS = { 0xdc => [2, 1], 0xdd => [4, 1], 0xde => [2, 2], 0xdf => [4, 2] }.freeze
    NUMBERS = { 1 => "C", 2 => "n", 4 => "N" }.freeze

    # Raises Violation for a value that says to be longer than the payload.
    def self.check(payload)
      return unless LONG.match?(payload)

      at = 0
      due = 1 # values that must still follow
      while due.positive?
        byte = payload.getbyte(at) or too_long
        at, more = step(payload, byte, at + 1)
        due += more - 1
        too_long if at + due > payload.bytesize
      end
    end

    # Where the next value begins, and how many values this one consists of.
    def self.step(payload, byte, at)
      return [at, 0] if byte < 0x80 || byte >= 0xe0 || byte.between?(0xc0, 0xc3)
      return [at, 2 * (byte & 15)] if byte < 0x90
      return [at, byte & 15] if byte < 0xa0
      return [at + (byte & 31), 0] if byte < 0xc0
      return [at + FIXED[byte], 0] if FIXED.key?(byte)

      size, extra = BYTES[byte] || ITEMS[byte]
      length = payload.byteslice(at, size)&.unpack1(NUMBERS[size]) or too_long
      BYTES.key?(byte) ? [at + size + extra + length, 0] : [at + size, extra * length]
    end

    def self.too_long
      raise Violation.new("MalformedValue", "a value that says to be longer than its frame")
    end
    private_class_method :step, :too_long
  end
end
