package until_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"banger.dev/banger/internal/until"
)

func TestWhatIsThereIsRead(t *testing.T) {
	got, err := io.ReadAll(until.Done(t.Context(), strings.NewReader("all of it")))
	if string(got) != "all of it" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestItEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := until.Done(ctx, strings.NewReader("ab"))
	if n, err := r.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	cancel()
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", n, err)
	}
}

// Whoever waits in a Read is told of the context, not of what has woken it.
func TestAReadThatIsCutOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	defer context.AfterFunc(ctx, func() { _ = in.CloseWithError(errors.New("a deadline")) })()
	go cancel()
	if _, err := until.Done(ctx, out).Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
