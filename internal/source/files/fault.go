package files

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// typeFault says which field the decoder could not take, and why.
func typeFault(raw []byte, err error) (field, message string) {
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field = pathAt(raw, te.Offset)
		if plain := withoutIndexes(field); plain != te.Field && !inside(plain, te.Field) {
			field = firstPath(raw, te) // the offset is that of a decoder within
		}
		return field, fmt.Sprintf("is %s where %s is expected", article(te.Value), goKind(te.Type))
	}
	if _, ok := errors.AsType[base64.CorruptInputError](err); ok {
		return corruptData(raw), "is not base64: " + err.Error()
	}
	return "", strings.TrimPrefix(err.Error(), "json: ")
}

// firstPath finds the first field of the name whose value is of the kind that
// the decoder complains about: for types with decoders of their own it knows
// no more.
func firstPath(raw []byte, te *json.UnmarshalTypeError) string {
	found := ""
	walkJSON(raw, func(path string, _ int) bool {
		plain := withoutIndexes(path)
		if found == "" && plain == te.Field {
			found = path
		}
		return found == "" && inside(te.Field, plain)
	})
	if found == "" {
		return te.Field
	}
	return found
}

func withoutIndexes(path string) string {
	return listIndex.ReplaceAllString(path, "")
}

// corruptData finds the entry of a Secret that is not base64.
func corruptData(raw []byte) string {
	var s struct {
		Data map[string]string `json:"data"`
	}
	_ = json.Unmarshal(raw, &s)
	var bad []string
	for key, value := range s.Data {
		if _, err := base64.StdEncoding.DecodeString(value); err != nil {
			bad = append(bad, key)
		}
	}
	if len(bad) == 0 {
		return ""
	}
	return "data." + slices.Min(bad)
}

// jsonKind names the kind of a JSON value.
func jsonKind(raw []byte) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// article makes words of what encoding/json calls values.
func article(value string) string {
	switch value {
	case "bool":
		return "a boolean"
	case "array":
		return "a list"
	case "object":
		return "an object"
	}
	return "a " + value
}

func goKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return fmt.Sprintf("an integer of %d bits", t.Bits())
}
