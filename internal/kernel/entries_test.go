package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"banger.dev/banger"
)

func TestAKernelIsRemovedUnlessAVMNeedsIt(t *testing.T) {
	needTools(t, "mke2fs")
	cache, a := t.TempDir(), &fakeArchive{release: "6.1"}
	old := pulled(t, testStore(t, cache, a, "agent"))
	s := testStore(t, cache, a, "newer agent")
	now := pulled(t, s)
	vm := filepath.Join(t.TempDir(), "vm")
	if err := os.Mkdir(vm, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(t.Context(), old.Digest, vm); err != nil {
		t.Fatal(err)
	}
	all, err := s.Entries(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, e := range all {
		if e.Name != "6.1" || e.Current != (e.Digest == now.Digest) || (e.Holders == 1) != (e.Digest == old.Digest) {
			t.Errorf("%+v", e)
		}
	}
	if err := s.Remove(t.Context(), old.Digest); banger.KindOf(err) != banger.KindConflict {
		t.Errorf("one that a VM needs: %v", err)
	}
	if err := os.Remove(vm); err != nil { // as a home that is deleted
		t.Fatal(err)
	}
	if err := s.RemoveEntry(t.Context(), banger.CacheEntry{Digest: old.Digest}); err != nil {
		t.Fatal(err)
	}
	onlyKernels(t, s, 1)
	if err := s.Hold(t.Context(), old.Digest, vm); banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("one that is gone: %v", err)
	}
	if k, err := s.Get(t.Context(), now.Digest); err != nil {
		t.Errorf("%+v, %v", k, err)
	}
	for _, digest := range []string{"", "..", "refs"} {
		if err := s.Remove(t.Context(), digest); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%q: %v", digest, err)
		}
	}
}
