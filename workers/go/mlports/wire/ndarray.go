package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

const maxDimensions = 64

// NDArray is an n-dimensional array, as numpy has it.
type NDArray struct {
	// DType names the elements' type as numpy does: "<f8", "<f4", "<i8", "|u1", "|b1" …, always little-endian.
	DType string
	// Fields describes the elements instead, where they are records: [name, dtype] or [name, dtype, shape] for each.
	Fields []any
	// Shape has a length for each dimension; none for a single element.
	Shape []int
	// Data holds the elements: little-endian, the last index running fastest. Of a received array it may only be read.
	Data []byte
}

// Float64Array is an array of dtype <f8. Without a shape it has one dimension.
func Float64Array(values []float64, shape ...int) *NDArray {
	data := make([]byte, 8*len(values))
	for i, value := range values {
		binary.LittleEndian.PutUint64(data[8*i:], math.Float64bits(value))
	}
	return &NDArray{DType: "<f8", Shape: shapeOr(shape, len(values)), Data: data}
}

// Float32Array is an array of dtype <f4. Without a shape it has one dimension.
func Float32Array(values []float32, shape ...int) *NDArray {
	data := make([]byte, 4*len(values))
	for i, value := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(value))
	}
	return &NDArray{DType: "<f4", Shape: shapeOr(shape, len(values)), Data: data}
}

// Int64Array is an array of dtype <i8. Without a shape it has one dimension.
func Int64Array(values []int64, shape ...int) *NDArray {
	data := make([]byte, 8*len(values))
	for i, value := range values {
		binary.LittleEndian.PutUint64(data[8*i:], uint64(value))
	}
	return &NDArray{DType: "<i8", Shape: shapeOr(shape, len(values)), Data: data}
}

func shapeOr(shape []int, length int) []int {
	if len(shape) == 0 {
		return []int{length}
	}
	return shape
}

// Len is the number of elements.
func (a NDArray) Len() int {
	count := 1
	for _, length := range a.Shape {
		count *= length
	}
	return count
}

// Float64s gives the elements in a row, whatever numbers or booleans they are. Integers beyond 2^53 are rounded.
func (a NDArray) Float64s() ([]float64, error) { return elements[float64](a) }

// Float32s is Float64s, rounded to 32 bits.
func (a NDArray) Float32s() ([]float32, error) { return elements[float32](a) }

// Int64s gives the elements of an array of integers or booleans. Unsigned ones from 2^63 are an error.
func (a NDArray) Int64s() ([]int64, error) {
	if len(a.DType) == 3 && a.DType[1] == 'f' {
		return nil, fmt.Errorf("an array of dtype %s has no integers", a.DType)
	}
	if a.DType == "<u8" {
		for i := 7; i < len(a.Data); i += 8 {
			if a.Data[i] > 127 {
				return nil, errors.New("an array of dtype <u8 with an element from 2^63 on")
			}
		}
	}
	return elements[int64](a)
}

func elements[T float32 | float64 | int64](a NDArray) ([]T, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	number, known := numberReaders[T]()[a.DType]
	if !known {
		return nil, fmt.Errorf("an array of dtype %q has no numbers that Go can have", a.DType)
	}
	size := itemSizes[a.DType]
	values := make([]T, len(a.Data)/size)
	for i := range values {
		values[i] = number(a.Data[i*size:])
	}
	return values, nil
}

func numberReaders[T float32 | float64 | int64]() map[string]func([]byte) T {
	little := binary.LittleEndian
	return map[string]func([]byte) T{
		"|b1": func(b []byte) T { return T(b[0]) },
		"|u1": func(b []byte) T { return T(b[0]) },
		"|i1": func(b []byte) T { return T(int8(b[0])) },
		"<u2": func(b []byte) T { return T(little.Uint16(b)) },
		"<i2": func(b []byte) T { return T(int16(little.Uint16(b))) },
		"<u4": func(b []byte) T { return T(little.Uint32(b)) },
		"<i4": func(b []byte) T { return T(int32(little.Uint32(b))) },
		"<u8": func(b []byte) T { return T(little.Uint64(b)) },
		"<i8": func(b []byte) T { return T(int64(little.Uint64(b))) },
		"<f2": func(b []byte) T { return T(half(little.Uint16(b))) },
		"<f4": func(b []byte) T { return T(math.Float32frombits(little.Uint32(b))) },
		"<f8": func(b []byte) T { return T(math.Float64frombits(little.Uint64(b))) },
	}
}

// half is the value of a float of 16 bits.
func half(bits uint16) float64 {
	sign, exponent, fraction := 1-2*float64(bits>>15), int(bits>>10&31), float64(bits&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// Nested gives an array of numbers as arrays within arrays, one for each dimension.
func (a NDArray) Nested() (any, error) {
	var flat []any
	if len(a.DType) == 3 && (a.DType[1] == 'i' || a.DType[1] == 'u') {
		numbers, err := a.Int64s()
		if err != nil {
			return nil, err
		}
		flat = boxed(numbers)
	} else {
		numbers, err := a.Float64s()
		if err != nil {
			return nil, err
		}
		flat = boxed(numbers)
	}
	return nested(flat, a.Shape), nil
}

func boxed[T any](numbers []T) []any {
	values := make([]any, len(numbers))
	for i, number := range numbers {
		values[i] = number
	}
	return values
}

func nested(flat []any, shape []int) any {
	if len(shape) == 0 {
		return flat[0]
	}
	rows := make([]any, shape[0])
	for i := range rows {
		step := len(flat) / shape[0]
		rows[i] = nested(flat[i*step:(i+1)*step], shape[1:])
	}
	return rows
}

// EncodeMsgpack is what msgpack.Encoder calls.
func (a NDArray) EncodeMsgpack(to *msgpack.Encoder) error {
	var head bytes.Buffer
	primitives := msgpack.NewEncoder(&head)
	primitives.UseCompactInts(true)
	shape := a.Shape
	if shape == nil { // the library's nil
		shape = []int{}
	}
	if err := primitives.EncodeMulti([]any{a.described(), shape}); err != nil {
		return err
	}
	if err := to.EncodeExtHeader(extNDArray, head.Len()+len(a.Data)); err != nil {
		return err
	}
	if _, err := to.Writer().Write(head.Bytes()); err != nil {
		return err
	}
	_, err := to.Writer().Write(a.Data)
	return err
}

// DecodeMsgpack is what msgpack.Decoder calls.
func (a *NDArray) DecodeMsgpack(from *msgpack.Decoder) error {
	code, length, err := from.DecodeExtHeader()
	if err != nil {
		return err
	}
	if code != extNDArray {
		return fmt.Errorf("an extension of type %d is no array", code)
	}
	data := make([]byte, length)
	if err := from.ReadFull(data); err != nil {
		return err
	}
	parsed, err := parseNDArray(data)
	if err == nil {
		*a = *parsed
	}
	return err
}

func (a NDArray) described() any {
	if a.Fields != nil {
		return a.Fields
	}
	return a.DType
}

// check finds whether dtype, shape and data agree.
func (a NDArray) check() error {
	size, err := itemSize(a.described(), 0)
	if err != nil {
		return fmt.Errorf("an array with %w", err)
	}
	want, err := product(size, a.Shape)
	if err != nil {
		return err
	}
	if want != len(a.Data) {
		return fmt.Errorf("an array of dtype %.80s and shape %.80s has %d bytes, not %d",
			fmt.Sprint(a.described()), fmt.Sprint(a.Shape), want, len(a.Data))
	}
	return nil
}

func parseNDArray(payload []byte) (*NDArray, error) {
	head := NewDecoder()
	head.payload = payload
	head.source.Reset(payload)
	value, err := head.value(0)
	if err != nil {
		return nil, Violated("InvalidExtension", "an array begins with [dtype, shape]: %v", err)
	}
	layout, _ := value.([]any)
	if len(layout) != 2 {
		return nil, Violated("InvalidExtension", "an array begins with [dtype, shape], not %s", Shown(value))
	}
	array := &NDArray{Data: payload[len(payload)-head.source.Len():]}
	switch described := layout[0].(type) {
	case string:
		array.DType = described
	case []byte:
		array.DType = string(described)
	case []any:
		array.Fields = described
	}
	if array.Shape, err = parseShape(layout[1]); err == nil {
		err = array.check()
	}
	if err != nil {
		return nil, Violated("InvalidExtension", "%v", err)
	}
	return array, nil
}

func parseShape(value any) ([]int, error) {
	lengths, ok := value.([]any)
	if !ok || len(lengths) > maxDimensions {
		return nil, fmt.Errorf("a shape is an array of at most %d integers, not %s", maxDimensions, Shown(value))
	}
	shape := make([]int, len(lengths))
	for i, each := range lengths {
		length, ok := each.(int64)
		if !ok || length < 0 {
			return nil, fmt.Errorf("a shape is made of integers from 0, not %s", Shown(each))
		}
		shape[i] = int(length)
	}
	return shape, nil
}

// product is the bytes of so many elements of a size. More than a frame can have is an error, before it overflows.
func product(size int, shape []int) (int, error) {
	if len(shape) > maxDimensions {
		return 0, fmt.Errorf("an array has at most %d dimensions, not %d", maxDimensions, len(shape))
	}
	for _, length := range shape {
		if length == 0 {
			return 0, nil
		}
	}
	for _, length := range shape {
		if length < 0 || length > MaxFrameLimit || size*length > MaxFrameLimit {
			return 0, fmt.Errorf("a shape of %.80s, which has more elements than a frame can hold", fmt.Sprint(shape))
		}
		size *= length
	}
	return size, nil
}
