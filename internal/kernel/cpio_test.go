package kernel

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

func TestCPIOIsReadByOthers(t *testing.T) {
	want := []cpioEntry{
		{name: "dev", mode: cpioDir | 0o755},
		{name: "init", mode: cpioFile | 0o755, data: []byte("12345")},
		{name: "link", mode: cpioSymlink | 0o777, data: []byte("init")},
		{name: "empty", mode: cpioFile | 0o644},
	}
	var b bytes.Buffer
	if err := writeCPIO(&b, want); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("%d bytes: what follows would not be aligned", b.Len())
	}
	roundTrip(t, b.Bytes(), want)
}

func roundTrip(t *testing.T, archive []byte, want []cpioEntry) {
	t.Helper()
	r := cpio.NewReader(bytes.NewReader(archive))
	for _, e := range want {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if e.mode&cpioSymlink == cpioSymlink {
			data = []byte(h.Linkname)
		}
		if h.Name != e.name || uint32(h.Mode) != e.mode || !bytes.Equal(data, e.data) || h.Uid != 0 || h.Guid != 0 {
			t.Errorf("got %+v %q, want %+v", h, data, e)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last entry: %v", err)
	}
}

func TestCPIODeviceNumbers(t *testing.T) {
	var b bytes.Buffer
	if err := writeCPIO(&b, []cpioEntry{{name: "dev/console", mode: cpioChar | 0o600, major: 5, minor: 1}}); err != nil {
		t.Fatal(err)
	}
	if got := b.String()[78:94]; got != "0000000500000001" {
		t.Errorf("rdev %s, want major 5 and minor 1", got)
	}
}

func TestCPIORefusesNames(t *testing.T) {
	for _, name := range []string{"", cpioTrailer, "a\x00b", strings.Repeat("x", cpioNameMax)} {
		if err := writeCPIO(io.Discard, []cpioEntry{{name: name, mode: cpioFile}}); err == nil {
			t.Errorf("%.20q was taken", name)
		}
	}
}

func FuzzCPIO(f *testing.F) {
	f.Add("init", []byte("x"), "modules/00-a.ko", []byte("four"))
	f.Add("a", []byte{}, "b", []byte("TRAILER!!!"))
	f.Fuzz(func(t *testing.T, name1 string, data1 []byte, name2 string, data2 []byte) {
		entries := []cpioEntry{{name: name1, mode: cpioFile | 0o644, data: data1}, {name: name2, mode: cpioFile | 0o755, data: data2}}
		var b bytes.Buffer
		if err := writeCPIO(&b, entries); err != nil {
			return
		}
		roundTrip(t, b.Bytes(), entries)
	})
}
