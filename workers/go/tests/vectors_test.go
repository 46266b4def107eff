package tests

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"mlports/wire"
)

type vector struct {
	Name     string
	Hex      string
	MaxFrame int `json:"max_frame"`
	EOF      bool
	Messages []message
	Error    string
	Encode   bool
	Segments map[string]string
}

type message struct {
	Type   string
	ID     int64
	Method string
	Params json.RawMessage
	Error  json.RawMessage
	Result json.RawMessage
	Meta   json.RawMessage
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "protocol", "vectors", name))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func frameVectors(t *testing.T) []vector {
	var file struct{ Vectors []vector }
	load(t, "frames.json", &file)
	if len(file.Vectors) < 200 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	return file.Vectors
}

func TestDecodesEveryVector(t *testing.T) {
	for _, v := range frameVectors(t) {
		if v.Segments != nil {
			continue
		}
		stream, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		readers := map[string]io.Reader{
			"whole":        bytes.NewReader(stream),
			"byte by byte": &pieces{stream, func() int { return 1 }},
			"in pieces":    &pieces{stream, func() int { return 1 + rand.Intn(9) }},
		}
		for how, reader := range readers {
			t.Run(v.Name+"/"+how, func(t *testing.T) { decodes(t, v, reader) })
		}
	}
}

func decodes(t *testing.T, v vector, source io.Reader) {
	frames := wire.NewFrameReader(source)
	if v.MaxFrame > 0 {
		frames.MaxFrame = v.MaxFrame
	}
	decoder := wire.NewDecoder()
	decoder.NDArrays = true
	var got []string
	var fault error
	for fault == nil {
		var each wire.Message
		if each, fault = next(frames, decoder); fault == nil {
			got = append(got, shown(fieldsOf(each)))
		}
	}
	var want []string
	for _, each := range v.Messages {
		want = append(want, shown(fieldsOf(each.decoded(t))))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	var violation *wire.Violation
	switch {
	case v.Error != "":
		if !errors.As(fault, &violation) || violation.Name != v.Error {
			t.Errorf("got the fault %v, want %s", fault, v.Error)
		}
	case !v.EOF && errors.As(fault, &violation) && violation.Name == "TruncatedFrame": // more may come
	case !errors.Is(fault, io.EOF):
		t.Errorf("got the fault %v, want none", fault)
	}
}

func next(frames *wire.FrameReader, decoder *wire.Decoder) (wire.Message, error) {
	payload, lasting, err := frames.Next()
	if err != nil {
		return nil, err
	}
	value, err := decoder.Decode(payload, lasting)
	if err != nil {
		return nil, err
	}
	return wire.Parse(value)
}

func TestEncodesEveryVector(t *testing.T) {
	encoder := wire.NewEncoder()
	encoder.NDArrays = true
	count := 0
	for _, v := range frameVectors(t) {
		if !v.Encode {
			continue
		}
		count++
		var written []byte
		for _, each := range v.Messages {
			frame, err := encoder.Frame(each.decoded(t))
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			written = append(written, frame...)
		}
		if got := hex.EncodeToString(written); got != v.Hex {
			t.Errorf("%s: wrote\n%s, want\n%s", v.Name, got, v.Hex)
		}
	}
	if count < 100 {
		t.Errorf("only %d vectors to encode", count)
	}
}

// pieces is a stream that gives little at a time.
type pieces struct {
	left []byte
	size func() int
}

func (p *pieces) Read(into []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	count := copy(into[:min(p.size(), len(into))], p.left)
	p.left = p.left[count:]
	return count, nil
}

func (m message) decoded(t *testing.T) wire.Message {
	t.Helper()
	meta, _ := value(t, m.Meta).(wire.Map)
	params, _ := value(t, m.Params).([]any)
	switch m.Type {
	case "request":
		return wire.Request{ID: m.ID, Method: m.Method, Params: params, Meta: meta}
	case "response":
		failure, _ := value(t, m.Error).(wire.Map)
		return wire.Response{ID: m.ID, Error: failure, Result: value(t, m.Result), Meta: meta}
	}
	return wire.Notification{Method: m.Method, Params: params, Meta: meta}
}

func fieldsOf(m wire.Message) []any {
	switch m := m.(type) {
	case wire.Request:
		return []any{"request", m.ID, m.Method, m.Params, m.Meta}
	case wire.Response:
		return []any{"response", m.ID, m.Error, m.Result, m.Meta}
	case wire.Notification:
		return []any{"notification", m.Method, m.Params, m.Meta}
	}
	return nil
}

// value is what the vectors' JSON stands for; see protocol/vectors/README.md.
func value(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	if len(raw) == 0 {
		return nil
	}
	switch raw[0] {
	case '[':
		var list []json.RawMessage
		must(t, json.Unmarshal(raw, &list))
		values := make([]any, len(list))
		for i, each := range list {
			values[i] = value(t, each)
		}
		return values
	case '{':
		return tagged(t, raw)
	case 'n', 't', 'f', '"':
		var plain any
		must(t, json.Unmarshal(raw, &plain))
		return plain
	}
	number, err := strconv.ParseInt(string(raw), 10, 64)
	must(t, err)
	return number
}

func tagged(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	var tag struct {
		Int, Float, Bin *string
		Map             *[][2]json.RawMessage
		Timestamp       *[2]int64
		Ext             *[2]json.RawMessage
		NDArray         *struct {
			DType json.RawMessage
			Shape []int
			Hex   string
		}
	}
	must(t, json.Unmarshal(raw, &tag))
	switch {
	case tag.Int != nil:
		number, _ := new(big.Int).SetString(*tag.Int, 10)
		if number.IsInt64() {
			return number.Int64()
		}
		return number.Uint64()
	case tag.Float != nil && *tag.Float == "nan": // one of many, and not Go's
		return math.Float64frombits(0x7ff8 << 48)
	case tag.Float != nil:
		number, err := strconv.ParseFloat(*tag.Float, 64)
		must(t, err)
		return number
	case tag.Bin != nil:
		return fromHex(t, *tag.Bin)
	case tag.Map != nil:
		pairs := wire.Map{}
		for _, pair := range *tag.Map {
			pairs = append(pairs, wire.Pair{Key: value(t, pair[0]), Value: value(t, pair[1])})
		}
		return pairs
	case tag.Timestamp != nil:
		return time.Unix(tag.Timestamp[0], tag.Timestamp[1]).UTC()
	case tag.Ext != nil:
		return wire.Ext{Code: int8(value(t, tag.Ext[0]).(int64)), Data: fromHex(t, value(t, tag.Ext[1]).(string))}
	}
	array := &wire.NDArray{Shape: tag.NDArray.Shape, Data: fromHex(t, tag.NDArray.Hex)}
	switch described := value(t, tag.NDArray.DType).(type) {
	case string:
		array.DType = described
	case []any:
		array.Fields = described
	}
	return array
}

// shown is a value as text in which equal values are equal: the order of maps is none.
func shown(value any) string {
	switch v := value.(type) {
	case []any:
		texts := make([]string, len(v))
		for i, each := range v {
			texts[i] = shown(each)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case map[string]any:
		entries, _ := wire.Entries(v)
		return shown(entries)
	case wire.Map:
		texts := make([]string, len(v))
		for i, pair := range v {
			texts[i] = shown(pair.Key) + ": " + shown(pair.Value)
		}
		sort.Strings(texts)
		return "{" + strings.Join(texts, ", ") + "}"
	case *wire.NDArray:
		return fmt.Sprintf("ndarray(%s%s %v %x)", v.DType, shown(v.Fields), v.Shape, v.Data)
	case []byte:
		return fmt.Sprintf("bin(%x)", v)
	case float64:
		return "float " + strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprintf("%T %v", value, value)
}

func fromHex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	must(t, err)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
