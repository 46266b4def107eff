// Package wire is the protocol without a connection: frames, values and messages (sections 2, 3, 4 and 12 of the
// protocol's text). Package mlports serves with it; a worker's author needs it for nothing.
package wire

import "fmt"

// Violation is a breach of the protocol, by the name that the protocol gives it. It ends the connection.
type Violation struct {
	Name   string
	Reason string
}

func (v *Violation) Error() string { return v.Name + ": " + v.Reason }

// Violated is a *Violation whose reason is formatted.
func Violated(name, format string, values ...any) error {
	return &Violation{Name: name, Reason: fmt.Sprintf(format, values...)}
}

// Shown is a value as an error's text shows it: short, and on one line.
func Shown(value any) string {
	switch v := value.(type) {
	case nil:
		return "nil"
	case string:
		return fmt.Sprintf("the string %.60q", v)
	case []byte:
		return fmt.Sprintf("%d bytes", len(v))
	case []any:
		return fmt.Sprintf("an array of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("a map of %d", len(v))
	case Map:
		return fmt.Sprintf("a map of %d", len(v))
	case *NDArray:
		return fmt.Sprintf("an ndarray of shape %.60s", fmt.Sprint(v.Shape))
	case Ext:
		return fmt.Sprintf("an extension of type %d", v.Code)
	}
	return fmt.Sprintf("%T %.60s", value, fmt.Sprint(value))
}
