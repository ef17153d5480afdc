package ir

import "log/slog"

const redacted = "REDACTED"

// Secret is key material. Every way of printing it shows "REDACTED".
type Secret []byte

// String hides the content.
func (Secret) String() string { return redacted }

// GoString hides the content from %#v.
func (Secret) GoString() string { return redacted }

// MarshalJSON hides the content.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue hides the content from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
