package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// validateCheck compares an output of check -o json with its published schema.
func validateCheck(t *testing.T, data string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/check.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatalf("docs/check.schema.json: %v", err)
	}
	var value any
	if err := json.Unmarshal([]byte(data), &value); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range (&jsonSchema{root}).validate("$", root, value) {
		t.Errorf("not as docs/check.schema.json says: %s", wrong)
	}
}

// jsonSchema is as much of JSON Schema (draft 2020-12) as our schema uses.
type jsonSchema struct{ root map[string]any }

func (s *jsonSchema) validate(at string, schema map[string]any, value any) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		rule := schema[keyword]
		switch keyword {
		case "$schema", "$id", "title", "description", "$defs", "required", "additionalProperties":
		case "$ref":
			name := strings.TrimPrefix(rule.(string), "#/$defs/")
			defined, ok := s.root["$defs"].(map[string]any)[name].(map[string]any)
			if !ok {
				say("there is no definition %s", name)
				continue
			}
			wrong = append(wrong, s.validate(at, defined, value)...)
		case "type":
			if got := jsonType(value); got != rule && (rule != "number" || got != "integer") {
				say("is %s, not %v", got, rule)
			}
		case "enum":
			if !slices.Contains(rule.([]any), value) {
				say("%v is none of %v", value, rule)
			}
		case "minimum":
			if n, ok := value.(float64); ok && n < rule.(float64) {
				say("%v is below %v", n, rule)
			}
		case "items":
			list, _ := value.([]any)
			for i, v := range list {
				wrong = append(wrong, s.validate(fmt.Sprintf("%s[%d]", at, i), rule.(map[string]any), v)...)
			}
		case "properties":
			wrong = append(wrong, s.object(at, schema, value)...)
		default:
			say("the schema's keyword %s is not known to this test", keyword)
		}
	}
	return wrong
}

func (s *jsonSchema) object(at string, schema map[string]any, value any) (wrong []string) {
	object, _ := value.(map[string]any)
	properties := schema["properties"].(map[string]any)
	for name, v := range object {
		if p, ok := properties[name].(map[string]any); ok {
			wrong = append(wrong, s.validate(at+"."+name, p, v)...)
			continue
		}
		switch more := schema["additionalProperties"].(type) {
		case map[string]any:
			wrong = append(wrong, s.validate(at+"."+name, more, v)...)
		case bool:
			if !more {
				wrong = append(wrong, at+": there is no property "+name)
			}
		}
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := object[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s: the property %v is missing", at, name))
		}
	}
	return wrong
}

func jsonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	}
	return "object"
}

// TestSchemaRefuses: the test's own validator finds what is wrong.
func TestSchemaRefuses(t *testing.T) {
	schema := map[string]any{}
	const text = `{"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
		"a": {"type": "integer", "minimum": 0}, "b": {"type": "array", "items": {"enum": ["x", "y"]}}, "c": {"$ref": "#/$defs/none"}}, "$defs": {}}`
	if err := json.Unmarshal([]byte(text), &schema); err != nil {
		t.Fatal(err)
	}
	f := func(value string, want int) {
		t.Helper()
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			t.Fatal(err)
		}
		if wrong := (&jsonSchema{schema}).validate("$", schema, v); len(wrong) != want {
			t.Errorf("%s: %q, want %d", value, wrong, want)
		}
	}
	f(`{"a": 1, "b": ["x"]}`, 0)
	f(`{"a": 1.5}`, 1)
	f(`{"a": -1}`, 1)
	f(`{"a": 1, "b": ["z", "x", 1]}`, 2)
	f(`{"b": []}`, 1)
	f(`{"a": 1, "d": 1}`, 1)
	f(`{"a": 1, "c": 1}`, 1)
	f(`[]`, 2)
}
