# frozen_string_literal: true

module Mlports
  # An n-dimensional array (SPEC.md 12.1): `dtype` such as "<f8" (or fields of a record), `shape` an array of integers,
  # `data` its elements as a binary String, row-major and little-endian.
  class NDArray
    DIRECTIVES = { "<f4" => "e*", "<f8" => "E*", "|i1" => "c*", "|u1" => "C*", "<i2" => "s<*", "<u2" => "S<*",
                   "<i4" => "l<*", "<u4" => "L<*", "<i8" => "q<*", "<u8" => "Q<*" }.freeze
    SIZES = { "b1" => 1, "i1" => 1, "u1" => 1, "i2" => 2, "u2" => 2, "f2" => 2, "i4" => 4, "u4" => 4, "f4" => 4,
              "i8" => 8, "u8" => 8, "f8" => 8, "c8" => 8, "c16" => 16 }.freeze
    TIMES = /\A<[mM]8(\[\d*(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?\z/

    attr_reader :dtype, :shape, :data

    def initialize(dtype, shape, data)
      @dtype = dtype
      @shape = shape
      @data = data
    end

    # From nested arrays of numbers, which must be of one shape. Raises ArgumentError.
    def self.from(nested, dtype = "<f8")
      shape = []
      level = nested
      while level.is_a?(Array)
        shape << level.size
        level = level.first
      end
      flat = nested.is_a?(Array) ? nested.flatten : [nested]
      raise ArgumentError, "rows of different lengths make no array" unless flat.size == shape.reduce(1, :*)

      new(dtype, shape, flat.pack(directive(dtype)))
    end

    # Nested arrays of numbers, or one number for shape []. Raises ArgumentError for other dtypes than numbers'.
    def to_a
      flat = dtype == "|b1" ? data.unpack("C*").map { |byte| byte == 1 } : data.unpack(self.class.directive(dtype))
      return flat.first if shape.empty?

      shape.drop(1).reverse.reduce(flat) do |values, size|
        size.zero? ? [] : values.each_slice(size).to_a
      end
    end

    def ==(other)
      other.is_a?(NDArray) && [dtype, shape, data] == [other.dtype, other.shape, other.data]
    end

    def self.directive(dtype)
      DIRECTIVES.fetch(dtype) { raise ArgumentError, "this SDK does not take #{dtype.inspect} apart: use its data" }
    end

    # Bytes of one element. Raises Violation for what is no dtype.
    def self.item_size(dtype, depth = 0)
      return record_size(dtype, depth) if dtype.is_a?(Array)

      wrong(dtype) unless dtype.is_a?(String)
      kind = dtype[1..]
      return SIZES[kind] if SIZES.key?(kind) && dtype[0] == (SIZES[kind] == 1 ? "|" : "<")
      return 8 if TIMES.match?(dtype)

      match = /\A(<U|\|S|\|V)([1-9]\d{0,9})\z/.match(dtype) || wrong(dtype)
      match[2].to_i * (match[1] == "<U" ? 4 : 1)
    end

    def self.record_size(fields, depth)
      wrong(fields) if fields.empty? || depth == 8
      names = fields.map { |field| field.is_a?(Array) && (2..3).cover?(field.size) ? field[0] : wrong(fields) }
      wrong(fields) unless names.all? { |name| name.is_a?(String) && !name.empty? } && names.uniq.size == names.size
      fields.sum { |_, dtype, shape| item_size(dtype, depth + 1) * elements(shape || []) }
    end

    # How many elements an array of this shape has. Raises Violation.
    def self.elements(shape)
      good = shape.is_a?(Array) && shape.size <= 64 && shape.all? { |size| size.is_a?(Integer) && size >= 0 }
      raise Violation.new("InvalidExtension", "an ndarray of shape #{shape.inspect[0, 80]}") unless good

      shape.reduce(1, :*)
    end

    def self.wrong(dtype)
      raise Violation.new("InvalidExtension", "an ndarray of dtype #{dtype.inspect[0, 80]}")
    end
    private_class_method :wrong, :record_size
  end
end
