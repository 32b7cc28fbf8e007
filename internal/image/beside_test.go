package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"banger.dev/banger/internal/image/oci"
)

// An import whose client stands still holds up no other, of the same name either.
func TestImportBesideOneThatStandsStill(t *testing.T) {
	needStore(t)
	store, layout := newStore(t, oci.Settings{})
	out, in := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := store.Import(t.Context(), "mine", out, nil)
		_ = out.CloseWithError(err)
		first <- err
	}()
	if _, err := in.Write([]byte("the beginning")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	img, err := store.Import(ctx, "mine", bytes.NewReader(pack(t, "bin/sh", "shell")), nil)
	if err != nil {
		t.Error(err)
	}
	_ = in.CloseWithError(errors.New("the client is gone"))
	if err := <-first; err == nil {
		t.Error("half of an archive is an image")
	}
	if found, err := store.Resolve(t.Context(), "mine", nil); err != nil || found.Digest != img.Digest {
		t.Errorf("%+v, %v", found, err)
	}
	nothingHalfMade(t, layout)
}
