package wire

import (
	"fmt"
	"regexp"
	"strconv"
)

const maxFieldsDeep = 8

var itemSizes = map[string]int{
	"|b1": 1, "|i1": 1, "<i2": 2, "<i4": 4, "<i8": 8, "|u1": 1, "<u2": 2, "<u4": 4, "<u8": 8,
	"<f2": 2, "<f4": 4, "<f8": 8, "<c8": 8, "<c16": 16,
}

var sizedTypes = regexp.MustCompile(`^(?:<U|\|S|\|V)([1-9][0-9]{0,8})$`)

var timeTypes = regexp.MustCompile(`^<[mM]8(?:\[(?:[1-9][0-9]{0,8})?(?:[YMWDhms]|[munpfa]s)\])?$`)

// itemSize is how many bytes an element has whose dtype is described so: by a string, or an array of fields.
func itemSize(described any, depth int) (int, error) {
	switch described := described.(type) {
	case string:
		return namedSize(described)
	case []any:
		if len(described) > 0 && depth < maxFieldsDeep {
			return recordSize(described, depth+1)
		}
	}
	return 0, fmt.Errorf("the dtype %s: it is a string or an array of fields", Shown(described))
}

func namedSize(name string) (int, error) {
	if size, known := itemSizes[name]; known {
		return size, nil
	}
	if timeTypes.MatchString(name) {
		return 8, nil
	}
	sized := sizedTypes.FindStringSubmatch(name)
	if sized == nil {
		return 0, fmt.Errorf("the dtype %.40q: it is like <f8 or |u1, little-endian", name)
	}
	size, err := strconv.Atoi(sized[1])
	if name[1] == 'U' {
		size *= 4
	}
	return size, err
}

func recordSize(fields []any, depth int) (int, error) {
	total := 0
	seen := map[string]bool{}
	for _, each := range fields {
		field, _ := each.([]any)
		if len(field) != 2 && len(field) != 3 {
			return 0, fmt.Errorf("the field %s: it is [name, dtype] or [name, dtype, shape]", Shown(each))
		}
		name, _ := field[0].(string)
		if name == "" || seen[name] {
			return 0, fmt.Errorf("the field %s: its name is a string of its own", Shown(each))
		}
		seen[name] = true
		size, err := itemSize(field[1], depth)
		if err != nil {
			return 0, err
		}
		if len(field) == 3 {
			shape, err := parseShape(field[2])
			if err != nil {
				return 0, err
			}
			if size, err = product(size, shape); err != nil {
				return 0, err
			}
		}
		if total += size; total > MaxFrameLimit {
			return 0, fmt.Errorf("a record of more than %d bytes", MaxFrameLimit)
		}
	}
	if total == 0 {
		return 0, fmt.Errorf("the dtype %s, whose elements have no bytes", Shown(fields))
	}
	return total, nil
}
