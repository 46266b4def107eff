package mlports

import (
	"bytes"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"mlports/wire"
)

// Arg gives an argument as a T, as As does. One that is missing, or no T, is a Failure invalid_argument.
func Arg[T any](args []any, index int) (T, error) {
	if index >= len(args) {
		var none T
		return none, Failf(InvalidArgument, "argument %d is missing: there are %d", index, len(args))
	}
	value, err := As[T](args[index])
	if err != nil {
		return value, Failf(InvalidArgument, "argument %d: %v", index, err)
	}
	return value, nil
}

// As gives a received value as a T: a number as another type of number that can hold it, text as bytes and the other
// way round, arrays of numbers, also NDArrays, as []float64 or [][]float64, and anything else as the msgpack library
// would decode it, such as a map into a struct with `msgpack` tags.
func As[T any](value any) (T, error) {
	var result T
	if same, ok := value.(T); ok {
		return same, nil
	}
	err := assign(&result, value)
	if err != nil {
		err = fmt.Errorf("%T is due, not %s: %w", result, wire.Shown(value), err)
	}
	return result, err
}

func assign(target, value any) error {
	switch target := target.(type) {
	case *float64:
		return assignNumber(target, value)
	case *int:
		return assignWhole(target, value)
	case *int64:
		return assignWhole(target, value)
	case *uint64:
		return assignWhole(target, value)
	case *string:
		text, ok := wire.Text(value)
		*target = text
		return unless(ok, "it is no text")
	case *[]byte:
		text, ok := value.(string)
		*target = []byte(text)
		return unless(ok, "it is no bytes")
	case *map[string]any:
		entries, ok := wire.Entries(value)
		*target = make(map[string]any, len(entries))
		for _, pair := range entries {
			key, named := pair.Key.(string)
			(*target)[key] = pair.Value
			ok = ok && named
		}
		return unless(ok, "it is no map with strings for keys")
	case *[]float64:
		numbers, err := floats(value)
		*target = numbers
		return err
	case *[][]float64:
		rows, err := matrix(value)
		*target = rows
		return err
	}
	return decodeInto(target, value)
}

func unless(ok bool, reason string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s", reason)
}

func assignNumber(target *float64, value any) error {
	number, ok := float(value)
	*target = number
	return unless(ok, "it is no number")
}

func assignWhole[T int | int64 | uint64](target *T, value any) error {
	switch number := value.(type) {
	case int64:
		*target = T(number)
		return unless(int64(*target) == number && (number < 0) == (*target < 0), "it is out of range")
	case uint64:
		*target = T(number)
		return unless(uint64(*target) == number && *target >= 0, "it is out of range")
	case float64:
		*target = T(number)
		return unless(number == math.Trunc(number) && math.Abs(number) < 1<<53 && float64(*target) == number, "it is no integer")
	}
	return unless(false, "it is no integer")
}

func floats(value any) ([]float64, error) {
	switch values := value.(type) {
	case *NDArray:
		if len(values.Shape) != 1 {
			return nil, fmt.Errorf("it has %d dimensions, not 1", len(values.Shape))
		}
		return values.Float64s()
	case []any:
		numbers := make([]float64, len(values))
		for i, each := range values {
			number, ok := float(each)
			if !ok {
				return nil, fmt.Errorf("element %d is %s, no number", i, wire.Shown(each))
			}
			numbers[i] = number
		}
		return numbers, nil
	}
	return nil, unless(false, "it is no array")
}

func matrix(value any) ([][]float64, error) {
	if array, ok := value.(*NDArray); ok {
		return arrayRows(array)
	}
	list, ok := value.([]any)
	if !ok {
		return nil, unless(false, "it is no array of rows")
	}
	rows := make([][]float64, len(list))
	for i, each := range list {
		row, err := floats(each)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		rows[i] = row
	}
	return rows, nil
}

func arrayRows(array *NDArray) ([][]float64, error) {
	if len(array.Shape) != 2 {
		return nil, fmt.Errorf("it has %d dimensions, not 2", len(array.Shape))
	}
	flat, err := array.Float64s()
	if err != nil {
		return nil, err
	}
	rows, width := make([][]float64, array.Shape[0]), array.Shape[1]
	for i := range rows {
		rows[i] = flat[i*width : (i+1)*width : (i+1)*width]
	}
	return rows, nil
}

// decodeInto goes by way of the encoded value, so that the library's rules for structs hold.
func decodeInto(target, value any) error {
	encoder := wire.NewEncoder()
	encoder.NDArrays = true
	encoder.MaxFrame = wire.MaxFrameLimit
	data, err := encoder.Value(value)
	if err != nil {
		return err
	}
	return msgpack.NewDecoder(bytes.NewReader(data)).Decode(target)
}
