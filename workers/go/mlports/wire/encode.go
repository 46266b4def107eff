package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

const maxDepthSent = 128

// ErrTooLarge is what an encoded message is that is longer than its receiver accepts.
var ErrTooLarge = errors.New("too large")

// Encoder turns messages into frames. It takes what Decoder gives, and whatever the msgpack library takes: numbers of
// every width, typed slices and maps, structs with `msgpack` tags.
type Encoder struct {
	// NDArrays says that the feature was agreed. Without it arrays of numbers go as nested arrays.
	NDArrays bool
	// MaxFrame is the longest payload, in bytes, that the receiver accepts.
	MaxFrame int

	out        bytes.Buffer
	primitives *msgpack.Encoder
}

func NewEncoder() *Encoder {
	e := &Encoder{MaxFrame: DefaultMaxFrame}
	e.primitives = msgpack.NewEncoder(&e.out)
	e.primitives.UseCompactInts(true)
	e.primitives.SetSortMapKeys(true)
	return e
}

// Frame gives a message's frame, which the next call overwrites. An error says what of the message cannot be sent; it
// is an ErrTooLarge where all of it is too long.
func (e *Encoder) Frame(message Message) (frame []byte, err error) {
	defer func() { // the methods by which an application's types encode themselves are its own
		if value := recover(); value != nil {
			err = fmt.Errorf("encoding it panicked: %v", value)
		}
	}()
	e.out.Reset()
	e.out.Write(make([]byte, headerSize))
	if err := message.encode(e); err != nil {
		return nil, err
	}
	if err := e.checkSize(); err != nil {
		return nil, err
	}
	frame = e.out.Bytes()
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-headerSize))
	return frame, nil
}

// Value gives a value alone, without a frame; the next call overwrites it.
func (e *Encoder) Value(value any) ([]byte, error) {
	e.out.Reset()
	err := e.value(value, 0)
	return e.out.Bytes(), err
}

// Capacity is how many bytes this encoder holds on to.
func (e *Encoder) Capacity() int { return e.out.Cap() }

func (e *Encoder) checkSize() error {
	if size := e.out.Len() - headerSize; size > e.MaxFrame {
		return fmt.Errorf("%w: %d bytes and more, and the receiver accepts frames of %d (max_frame)", ErrTooLarge, size, e.MaxFrame)
	}
	return nil
}

// value writes one value that lies within so many arrays and maps.
func (e *Encoder) value(value any, depth int) error {
	switch v := value.(type) {
	case nil:
		return e.primitives.EncodeNil()
	case bool:
		return e.primitives.EncodeBool(v)
	case int:
		return e.primitives.EncodeInt(int64(v))
	case int64:
		return e.primitives.EncodeInt(v)
	case uint64:
		return e.primitives.EncodeUint(v)
	case float64:
		return e.primitives.EncodeFloat64(v)
	case float32:
		return e.primitives.EncodeFloat64(float64(v))
	case string:
		return e.text(v)
	case []byte:
		return e.bytes(v)
	case []any:
		return e.array(v, depth+1)
	case []Outcome:
		return e.outcomes(v, depth+1)
	case []float64:
		return e.floats(v, depth+1)
	case map[string]any:
		return e.mapping(v, depth+1)
	case Map:
		return e.ordered(v, depth+1)
	case *NDArray:
		return e.ndarray(v, depth)
	case NDArray:
		return e.ndarray(&v, depth)
	case time.Time:
		return e.primitives.EncodeTime(v)
	}
	return e.other(value, depth)
}

func (e *Encoder) text(text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("a string that is not UTF-8, %.40q: bytes are sent as []byte", text)
	}
	return e.primitives.EncodeString(text)
}

func (e *Encoder) bytes(data []byte) error {
	if data == nil { // the library's nil
		data = []byte{}
	}
	return e.primitives.EncodeBytes(data)
}

func (e *Encoder) array(values []any, depth int) error {
	if err := e.begin(depth); err != nil {
		return err
	}
	if err := e.primitives.EncodeArrayLen(len(values)); err != nil {
		return err
	}
	for _, value := range values {
		if err := e.value(value, depth); err != nil {
			return err
		}
	}
	return nil
}

func (e *Encoder) floats(values []float64, depth int) error {
	if err := e.begin(depth); err != nil {
		return err
	}
	if err := e.primitives.EncodeArrayLen(len(values)); err != nil {
		return err
	}
	for _, value := range values {
		if err := e.primitives.EncodeFloat64(value); err != nil {
			return err
		}
	}
	return nil
}

// mapping writes a map in the order of its keys, so that equal maps are equal bytes.
func (e *Encoder) mapping(entries map[string]any, depth int) error {
	if err := e.begin(depth); err != nil {
		return err
	}
	if err := e.primitives.EncodeMapLen(len(entries)); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if err := e.text(key); err != nil {
			return err
		}
		if err := e.value(entries[key], depth); err != nil {
			return err
		}
	}
	return nil
}

func (e *Encoder) ordered(pairs Map, depth int) error {
	if err := e.begin(depth); err != nil {
		return err
	}
	if err := e.primitives.EncodeMapLen(len(pairs)); err != nil {
		return err
	}
	for _, pair := range pairs {
		switch reflect.ValueOf(pair.Key).Kind() {
		case reflect.Float32, reflect.Float64, reflect.Array, reflect.Map, reflect.Struct, reflect.Pointer:
			return fmt.Errorf("a map's key is %s: keys are strings, integers, bytes, booleans or nil", Shown(pair.Key))
		}
		if err := e.value(pair.Key, depth); err != nil {
			return err
		}
		if err := e.value(pair.Value, depth); err != nil {
			return err
		}
	}
	return nil
}

// begin is asked before each array and map: a value that contains itself ends here.
func (e *Encoder) begin(depth int) error {
	if depth > maxDepthSent {
		return fmt.Errorf("arrays and maps are nested more than %d deep", maxDepthSent)
	}
	return e.checkSize()
}

func (e *Encoder) ndarray(array *NDArray, depth int) error {
	if array == nil {
		return e.primitives.EncodeNil()
	}
	if err := array.check(); err != nil {
		return err
	}
	if e.NDArrays {
		return array.EncodeMsgpack(e.primitives)
	}
	nested, err := array.Nested()
	if err != nil {
		return fmt.Errorf("the peer takes no arrays as such: %w", err)
	}
	return e.value(nested, depth)
}

// other writes what the library knows better, once it is sure that the library can bear it.
func (e *Encoder) other(value any, depth int) error {
	if err := e.sendable(reflect.ValueOf(value), depth); err != nil {
		return err
	}
	return e.primitives.Encode(value)
}

var customEncoder = reflect.TypeFor[msgpack.CustomEncoder]()

// sendable finds what the library would send wrongly or never come to an end of.
func (e *Encoder) sendable(value reflect.Value, depth int) error {
	if depth > maxDepthSent {
		return e.begin(depth)
	}
	switch value.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !value.IsNil() {
			return e.sendable(value.Elem(), depth+1)
		}
	case reflect.String:
		if !utf8.ValidString(value.String()) {
			return fmt.Errorf("a string that is not UTF-8, %.40q: bytes are sent as []byte", value.String())
		}
	case reflect.Slice, reflect.Array:
		return e.sendableElements(value, depth+1)
	case reflect.Map:
		return e.sendableEntries(value, depth+1)
	case reflect.Struct:
		return e.sendableFields(value, depth+1)
	case reflect.Complex64, reflect.Complex128, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return fmt.Errorf("a value of type %s cannot be sent", value.Type())
	}
	return nil
}

func (e *Encoder) sendableFields(value reflect.Value, depth int) error {
	if array, ok := value.Interface().(NDArray); ok {
		if !e.NDArrays {
			return errors.New("an array inside a struct, and the peer takes no arrays as such")
		}
		return array.check()
	}
	if value.Type().Implements(customEncoder) {
		return nil
	}
	for i := range value.NumField() {
		if !value.Type().Field(i).IsExported() {
			continue
		}
		if err := e.sendable(value.Field(i), depth); err != nil {
			return err
		}
	}
	return nil
}

func (e *Encoder) sendableElements(values reflect.Value, depth int) error {
	if kind := values.Type().Elem().Kind(); kind >= reflect.Bool && kind <= reflect.Float64 {
		return nil
	}
	for i := range values.Len() {
		if err := e.sendable(values.Index(i), depth); err != nil {
			return err
		}
	}
	return nil
}

func (e *Encoder) sendableEntries(entries reflect.Value, depth int) error {
	kind := entries.Type().Key().Kind()
	if kind != reflect.String && (kind < reflect.Bool || kind > reflect.Uint64) {
		return fmt.Errorf("a map with keys of type %s: they can be strings, integers or booleans; mlports.Map takes more",
			entries.Type().Key())
	}
	for each := entries.MapRange(); each.Next(); {
		if err := e.sendable(each.Key(), depth); err != nil {
			return err
		}
		if err := e.sendable(each.Value(), depth); err != nil {
			return err
		}
	}
	return nil
}
