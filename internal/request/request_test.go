package request_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"banger.dev/banger/internal/request"
)

func TestLogLinesNameTheirRequest(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(request.LogHandler(slog.NewTextHandler(&out, nil))).With("part", "x")
	id := request.NewID()
	ctx := context.WithoutCancel(request.With(t.Context(), id))
	log.InfoContext(ctx, "served")
	log.InfoContext(t.Context(), "not served")
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], "request="+id) || !strings.Contains(lines[0], "part=x") {
		t.Errorf("%q", lines[0])
	}
	if strings.Contains(lines[1], "request=") || request.ID(t.Context()) != "" {
		t.Errorf("%q", lines[1])
	}
}
