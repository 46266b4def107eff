package mlports

import (
	"regexp"

	"mlports/wire"
)

// hello is what the orchestrator says of itself.
type hello struct {
	maxFrame int
	features []string
	config   map[string]any
}

var segmentPath = regexp.MustCompile(`^/proc/[1-9][0-9]{0,9}/fd/[0-9]{1,9}$`)

func features() []string {
	claimed := []string{"batch", "cancel", "input", "ndarray", "ping", "stream"}
	if taken.Load() {
		claimed = append(claimed, "stacks")
	}
	return claimed
}

func parseHello(params []any) (*hello, error) {
	if len(params) == 0 {
		return nil, wrongHello("without its map")
	}
	said, ok := wire.Entries(params[0])
	if !ok {
		return nil, wrongHello("with %s in place of its map", wire.Shown(params[0]))
	}
	if err := checkVersions(said); err != nil {
		return nil, err
	}
	h := &hello{maxFrame: wire.DefaultMaxFrame, config: map[string]any{}}
	for _, pair := range said {
		if err := h.take(pair.Key, pair.Value); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func checkVersions(said wire.Map) error {
	value, _ := said.Get("protocol")
	versions, _ := wire.Entries(value)
	least, ok := versions.Get("min")
	most, alsoOk := versions.Get("max")
	from, fromOk := least.(int64)
	to, toOk := most.(int64)
	if !ok || !alsoOk || !fromOk || !toOk {
		return wrongHello("with protocol %s: it is {min, max}, two integers", wire.Shown(value))
	}
	if from > version || to < version {
		return wire.Violated("UnsupportedVersion", "the orchestrator speaks versions %d to %d, this worker version %d", from, to, version)
	}
	return nil
}

func (h *hello) take(key, value any) error {
	if value == nil {
		return nil
	}
	ok := true
	switch key {
	case "max_frame":
		var size int64
		size, ok = value.(int64)
		ok = ok && size >= 1 && size <= wire.MaxFrameLimit
		h.maxFrame = int(size)
	case "features":
		h.features, ok = names(value)
	case "service":
		_, ok = wire.Text(value)
	case "replica":
		_, err := wire.ParseID(value)
		ok = err == nil
	case "config":
		h.config, ok = settings(value)
	case "shm":
		ok = isProbe(value)
	}
	if !ok {
		return wrongHello("with %s %s", key, wire.Shown(value))
	}
	return nil
}

func names(value any) ([]string, bool) {
	list, ok := value.([]any)
	texts := make([]string, len(list))
	for i, each := range list {
		text, isText := wire.Text(each)
		texts[i], ok = text, ok && isText
	}
	return texts, ok
}

// settings is the config; what has no string for a key is left out of it.
func settings(value any) (map[string]any, bool) {
	if plain, ok := value.(map[string]any); ok {
		return plain, true
	}
	entries, ok := wire.Entries(value)
	config := map[string]any{}
	for _, pair := range entries {
		if key, isText := pair.Key.(string); isText {
			config[key] = pair.Value
		}
	}
	return config, ok
}

func isProbe(value any) bool {
	said, ok := wire.Entries(value)
	segment, _ := said.Get("segment")
	token, _ := said.Get("token")
	path, isText := wire.Text(segment)
	data, isBytes := token.([]byte)
	return ok && isText && isBytes && len(data) > 0 && segmentPath.MatchString(path)
}

func wrongHello(format string, values ...any) error {
	return wire.Violated("InvalidHello", "$/hello "+format, values...)
}
