package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const (
	maxDepthTaken = 1024
	firstCapacity = 1024 // elements: more is allocated only as they come

	extTimestamp = -1
	extNDArray   = 1
	extShared    = 2
	extArrow     = 3
)

// Decoder turns payloads into values: nil, bool, int64 (uint64 above it), float64, string, []byte, []any,
// map[string]any (Map where a key is no string), time.Time in UTC, *NDArray and Ext.
//
// It walks by the library's primitives. The library's own decoding into an interface has no limit to nesting, takes
// text that is not UTF-8, knows no foreign extension, and gives every width of integer a type of its own.
type Decoder struct {
	// NDArrays says that the feature was agreed. Without it extension 1 is InvalidExtension.
	NDArrays bool
	// Ordered has every map come as a Map.
	Ordered bool

	primitives *msgpack.Decoder
	source     bytes.Reader
	payload    []byte
	lasting    bool
}

func NewDecoder() *Decoder {
	d := &Decoder{}
	d.primitives = msgpack.NewDecoder(&d.source)
	return d
}

// Decode gives the one value in a payload. Where the payload is lasting, large parts of it are not copied. What breaks
// the rules is a *Violation.
func (d *Decoder) Decode(payload []byte, lasting bool) (any, error) {
	d.payload, d.lasting = payload, lasting
	d.source.Reset(payload)
	value, err := d.value(0)
	if err != nil {
		if _, known := err.(*Violation); !known {
			err = Violated("MalformedValue", "the frame ends within its value: %v", err)
		}
		return nil, err
	}
	if left := d.source.Len(); left > 0 {
		return nil, Violated("TrailingBytes", "%d bytes behind the value in a frame", left)
	}
	return value, nil
}

func (d *Decoder) value(depth int) (any, error) {
	code, err := d.primitives.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedNum(code):
		return d.primitives.DecodeInt64()
	case msgpcode.IsString(code):
		return d.text()
	case msgpcode.IsBin(code):
		return d.bytes()
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		return d.array(depth + 1)
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		return d.mapping(depth + 1)
	case msgpcode.IsExt(code):
		return d.extension()
	}
	switch code {
	case msgpcode.Nil:
		return nil, d.primitives.DecodeNil()
	case msgpcode.True, msgpcode.False:
		return d.primitives.DecodeBool()
	case msgpcode.Float, msgpcode.Double:
		return d.primitives.DecodeFloat64()
	case msgpcode.Uint64:
		n, err := d.primitives.DecodeUint64()
		if n <= math.MaxInt64 {
			return int64(n), err
		}
		return n, err
	case msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32, msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64:
		return d.primitives.DecodeInt64()
	}
	return nil, Violated("MalformedValue", "the byte %02x begins no value", code)
}

// take gives the next bytes of the payload, uncopied.
func (d *Decoder) take(length int) ([]byte, error) {
	left := d.source.Len()
	if length > left {
		return nil, Violated("MalformedValue", "%d bytes are announced where %d are left", length, left)
	}
	start := len(d.payload) - left
	_, err := d.source.Seek(int64(length), io.SeekCurrent)
	return d.payload[start : start+length : start+length], err
}

// kept gives bytes that outlive the payload. What is most of a lasting payload may as well keep all of it.
func (d *Decoder) kept(data []byte) []byte {
	if d.lasting && len(data) > len(d.payload)/2 {
		return data
	}
	return append(make([]byte, 0, len(data)), data...)
}

func (d *Decoder) raw() ([]byte, error) {
	length, err := d.primitives.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	return d.take(length)
}

func (d *Decoder) text() (any, error) {
	data, err := d.raw()
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, Violated("MalformedValue", "a str that is not UTF-8: %.40q", data)
	}
	return string(data), nil
}

func (d *Decoder) bytes() (any, error) {
	data, err := d.raw()
	if err != nil {
		return nil, err
	}
	return d.kept(data), nil
}

func (d *Decoder) array(depth int) (any, error) {
	length, err := d.primitives.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	if err := d.check(length, depth); err != nil {
		return nil, err
	}
	values := make([]any, 0, min(length, firstCapacity))
	for range length {
		value, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

func (d *Decoder) mapping(depth int) (any, error) {
	length, err := d.primitives.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	if err := d.check(2*length, depth); err != nil {
		return nil, err
	}
	pairs := make(Map, 0, min(length, firstCapacity))
	named := !d.Ordered
	for range length {
		key, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		switch key.(type) {
		case string:
		case []any, map[string]any, Map:
			return nil, Violated("MalformedValue", "a map's key is %s", Shown(key))
		default:
			named = false
		}
		value, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, Pair{key, value})
	}
	if !named {
		return pairs, nil
	}
	plain := make(map[string]any, len(pairs))
	for _, pair := range pairs {
		plain[pair.Key.(string)] = pair.Value
	}
	return plain, nil
}

func (d *Decoder) check(values, depth int) error {
	if depth > maxDepthTaken {
		return Violated("MalformedValue", "arrays and maps nested more than %d deep", maxDepthTaken)
	}
	if left := d.source.Len(); values > left {
		return Violated("MalformedValue", "%d values are announced where %d bytes are left", values, left)
	}
	return nil
}

func (d *Decoder) extension() (any, error) {
	code, length, err := d.primitives.DecodeExtHeader()
	if err != nil {
		return nil, err
	}
	data, err := d.take(length)
	if err != nil {
		return nil, err
	}
	switch {
	case code == extTimestamp:
		return timestamp(data)
	case code == extNDArray && d.NDArrays:
		return parseNDArray(d.kept(data))
	case code == extNDArray || code == extShared || code == extArrow:
		return nil, Violated("InvalidExtension", "an extension of type %d, which was not agreed on", code)
	}
	return Ext{code, d.kept(data)}, nil
}

func timestamp(data []byte) (any, error) {
	var seconds int64
	var nanoseconds uint32
	switch len(data) {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(data))
	case 8:
		both := binary.BigEndian.Uint64(data)
		seconds, nanoseconds = int64(both&(1<<34-1)), uint32(both>>34)
	case 12:
		nanoseconds, seconds = binary.BigEndian.Uint32(data), int64(binary.BigEndian.Uint64(data[4:]))
	default:
		return nil, Violated("MalformedValue", "a timestamp of %d bytes: it has 4, 8 or 12", len(data))
	}
	if nanoseconds > 999_999_999 {
		return nil, Violated("MalformedValue", "a timestamp with %d nanoseconds", nanoseconds)
	}
	return time.Unix(seconds, int64(nanoseconds)).UTC(), nil
}
