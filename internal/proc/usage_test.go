package proc

import (
	"os"
	"testing"
)

func TestUsageOf(t *testing.T) {
	u, err := UsageOf(os.Getpid())
	if err != nil || u.RSS < 1<<20 || u.CPU < 0 {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := UsageOf(-1); err == nil {
		t.Error("a process that cannot be takes something")
	}
}
