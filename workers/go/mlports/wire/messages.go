package wire

import (
	"slices"
	"unicode/utf8"
)

const (
	typeRequest = iota
	typeResponse
	typeNotification
)

const maxID = 1<<53 - 1

// Message is a Request, a Response or a Notification.
type Message interface {
	encode(*Encoder) error
}

// Request is [0, id, method, params, meta?].
type Request struct {
	ID     int64
	Method string
	Params []any
	Meta   Map
}

// Response is [1, id, error, result, meta?]. Error is nil, or has code and message.
type Response struct {
	ID     int64
	Error  Map
	Result any
	Meta   Map
}

// Notification is [2, method, params, meta?].
type Notification struct {
	Method string
	Params []any
	Meta   Map
}

// Outcome is what became of one call of a batch: [error, result]. A batch's result is a []Outcome.
type Outcome struct {
	Error  Map
	Result any
}

// Parse gives the message that a decoded value is; an InvalidMessage is a *Violation.
func Parse(value any) (Message, error) {
	parts, _ := value.([]any)
	if len(parts) == 0 {
		return nil, invalid("a message is an array, not %s", Shown(value))
	}
	kind, ok := parts[0].(int64)
	least := 4
	if kind == typeNotification {
		least = 3
	}
	if !ok || kind < typeRequest || kind > typeNotification {
		return nil, invalid("a message begins with 0, 1 or 2, not %s", Shown(parts[0]))
	}
	if len(parts) < least {
		return nil, invalid("a message of type %d has at least %d elements, not %d", kind, least, len(parts))
	}
	meta, err := parseMeta(parts[least:])
	if err != nil {
		return nil, err
	}
	switch kind {
	case typeRequest:
		return parseRequest(parts, meta)
	case typeResponse:
		return parseResponse(parts, meta)
	}
	method, params, err := parseCall(parts[1], parts[2])
	return Notification{method, params, meta}, err
}

func parseRequest(parts []any, meta Map) (Message, error) {
	id, err := ParseID(parts[1])
	if err != nil {
		return nil, err
	}
	method, params, err := parseCall(parts[2], parts[3])
	return Request{id, method, params, meta}, err
}

func parseResponse(parts []any, meta Map) (Message, error) {
	id, err := ParseID(parts[1])
	if err != nil {
		return nil, err
	}
	failure, err := parseFailure(parts[2])
	if err != nil {
		return nil, err
	}
	if failure != nil && parts[3] != nil {
		return nil, invalid("a response with an error has the result nil, not %s", Shown(parts[3]))
	}
	return Response{id, failure, parts[3], meta}, nil
}

func parseCall(method, params any) (string, []any, error) {
	name, ok := Text(method)
	if !ok || name == "" {
		return "", nil, invalid("a method is a string of at least 1 byte, not %s", Shown(method))
	}
	list, ok := params.([]any)
	if !ok {
		return "", nil, invalid("params are an array, not %s", Shown(params))
	}
	return name, list, nil
}

func parseFailure(value any) (Map, error) {
	if value == nil {
		return nil, nil
	}
	failure, ok := Entries(value)
	if !ok {
		return nil, invalid("an error is nil or a map, not %s", Shown(value))
	}
	for _, key := range []string{"code", "message"} {
		at := slices.IndexFunc(failure, func(p Pair) bool { return p.Key == key })
		if at < 0 {
			return nil, invalid("an error without %s: %s", key, Shown(value))
		}
		if failure[at].Value, ok = Text(failure[at].Value); !ok {
			return nil, invalid("an error's %s is a string: %s", key, Shown(value))
		}
	}
	if retryable, there := failure.Get("retryable"); there {
		if _, ok := retryable.(bool); !ok {
			return nil, invalid("an error's retryable is a boolean, not %s", Shown(retryable))
		}
	}
	return failure, nil
}

func parseMeta(rest []any) (Map, error) {
	if len(rest) == 0 || rest[0] == nil {
		return nil, nil
	}
	meta, ok := Entries(rest[0])
	if !ok {
		return nil, invalid("meta is a map, not %s", Shown(rest[0]))
	}
	return meta, nil
}

// ParseID gives a request's id; what is none is an InvalidMessage.
func ParseID(value any) (int64, error) {
	id, ok := value.(int64)
	if !ok || id < 0 || id > maxID {
		return 0, invalid("an id is an integer from 0 to 2^53-1, not %s", Shown(value))
	}
	return id, nil
}

// Text gives a string that came as one, or as bytes that hold UTF-8: some languages have one type for both.
func Text(value any) (string, bool) {
	if data, ok := value.([]byte); ok && utf8.Valid(data) {
		return string(data), true
	}
	text, ok := value.(string)
	return text, ok
}

// Entries gives the entries of a map that came as either kind of map, keys that hold text as strings.
func Entries(value any) (Map, bool) {
	switch entries := value.(type) {
	case map[string]any:
		pairs := make(Map, 0, len(entries))
		for key, value := range entries {
			pairs = append(pairs, Pair{key, value})
		}
		return pairs, true
	case Map:
		pairs := slices.Clone(entries)
		for i, pair := range pairs {
			if key, ok := Text(pair.Key); ok {
				pairs[i].Key = key
			}
		}
		return pairs, true
	}
	return nil, false
}

func invalid(format string, values ...any) error {
	return Violated("InvalidMessage", format, values...)
}

func (m Request) encode(e *Encoder) error {
	if err := e.head(typeRequest, 4, m.Meta); err != nil {
		return err
	}
	if err := e.primitives.EncodeInt(m.ID); err != nil {
		return err
	}
	return e.call(m.Method, m.Params, m.Meta)
}

func (m Response) encode(e *Encoder) error {
	if err := e.head(typeResponse, 4, m.Meta); err != nil {
		return err
	}
	if err := e.primitives.EncodeInt(m.ID); err != nil {
		return err
	}
	if err := e.optional(m.Error, true); err != nil {
		return err
	}
	if err := e.value(m.Result, 1); err != nil {
		return err
	}
	return e.optional(m.Meta, false)
}

func (e *Encoder) outcomes(outcomes []Outcome, depth int) error {
	if err := e.primitives.EncodeArrayLen(len(outcomes)); err != nil {
		return err
	}
	for _, outcome := range outcomes {
		if err := e.begin(depth + 1); err != nil {
			return err
		}
		if err := e.primitives.EncodeArrayLen(2); err != nil {
			return err
		}
		if err := e.optional(outcome.Error, true); err != nil {
			return err
		}
		if err := e.value(outcome.Result, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (m Notification) encode(e *Encoder) error {
	if err := e.head(typeNotification, 3, m.Meta); err != nil {
		return err
	}
	return e.call(m.Method, m.Params, m.Meta)
}

func (e *Encoder) head(kind int64, elements int, meta Map) error {
	if len(meta) > 0 {
		elements++
	}
	if err := e.primitives.EncodeArrayLen(elements); err != nil {
		return err
	}
	return e.primitives.EncodeInt(kind)
}

func (e *Encoder) call(method string, params []any, meta Map) error {
	if err := e.text(method); err != nil {
		return err
	}
	if err := e.array(params, 2); err != nil {
		return err
	}
	return e.optional(meta, false)
}

// optional writes a map that may be empty: as nil, or not at all.
func (e *Encoder) optional(entries Map, asNil bool) error {
	if len(entries) > 0 {
		return e.value(entries, 1)
	}
	if asNil {
		return e.primitives.EncodeNil()
	}
	return nil
}
