package app

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain sees to it that no test, and so no Gateway, leaves a goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
