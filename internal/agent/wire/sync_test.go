package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"
)

// prefixed is a connection on which garbage comes before everything else.
type prefixed struct {
	net.Conn
	in io.Reader
}

func prefix(garbage []byte, conn net.Conn) *prefixed {
	return &prefixed{conn, io.MultiReader(bytes.NewReader(garbage), conn)}
}

func (p *prefixed) Read(b []byte) (int, error) { return p.in.Read(b) }

// connected gives two ends that buffer what is written, as a serial port does.
func connected(t *testing.T) (a, b net.Conn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}

// handshake runs both halves, each with garbage before what the other says, and
// checks that not a byte behind the handshake is taken.
func handshake(t *testing.T, toHost, toGuest []byte) {
	t.Helper()
	h, g := connected(t)
	guest := make(chan error, 1)
	go func() {
		rw := prefix(toGuest, g)
		err := SyncGuest(rw)
		if err == nil {
			_, err = rw.Write([]byte("from guest"))
		}
		if err == nil {
			err = expect(rw, "from host")
		}
		guest <- err
	}()
	rw := prefix(toHost, h)
	if err := SyncHost(rw); err != nil {
		t.Fatalf("host: %v", err)
	}
	if err := expect(rw, "from guest"); err != nil {
		t.Errorf("host: %v", err)
	}
	if _, err := rw.Write([]byte("from host")); err != nil {
		t.Error(err)
	}
	if err := <-guest; err != nil {
		t.Errorf("guest: %v", err)
	}
}

func expect(r io.Reader, want string) error {
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b) != want {
		return errors.New("got " + string(b) + " instead of " + want)
	}
	return nil
}

func TestSyncFindsItsWayThroughOldBytes(t *testing.T) {
	old := marker(magicHello, bytes.Repeat([]byte("n"), nonceSize))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = "BNGRHELOSYC"[rand.IntN(11)]
	}
	for name, garbage := range map[string][2][]byte{
		"nothing":               {},
		"noise":                 {noise, noise},
		"an old hello":          {old, nil},
		"half an old hello":     {old[:13], nil},
		"a hello in a hello":    {append(append([]byte{}, old[:10]...), old...), nil},
		"an old handshake":      {append(append([]byte{}, old...), marker(magicBegin, old[magicSize:])...), append(marker(magicSync, old[magicSize:]), old[magicSize:]...)},
		"half an old answer":    {nil, marker(magicSync, old[magicSize:])[:20]},
		"the beginning of ours": {[]byte("BNGRHEL"), []byte("BNGRSYN")},
		"kicks":                 {nil, bytes.Repeat(kick, 50)},
	} {
		t.Run(name, func(t *testing.T) { handshake(t, garbage[0], garbage[1]) })
	}
}

func TestSyncAfterTheFirstHelloWasEaten(t *testing.T) {
	h, g := connected(t)
	guest := make(chan error, 1)
	go func() { guest <- SyncGuest(g) }()
	if _, err := io.ReadFull(h, make([]byte, markerSize-3)); err != nil {
		t.Fatal(err)
	}
	if err := SyncHost(h); err != nil {
		t.Fatal(err)
	}
	if err := <-guest; err != nil {
		t.Fatal(err)
	}
}

func TestAHostThatBeginsAnewWakesAGuestThatDidNotNotice(t *testing.T) {
	h, g := connected(t)
	guest := make(chan error, 1)
	go func() { // as the agent does: whatever ends a session, synchronise again
		session, err := yamux.Server(struct {
			io.Reader
			io.Writer
			io.Closer
		}{g, g, io.NopCloser(nil)}, YamuxConfig())
		if err == nil {
			_, err = session.Accept()
		}
		if err == nil {
			err = errors.New("a stream out of nothing")
		} else {
			err = SyncGuest(g)
		}
		guest <- err
	}()
	if err := SyncHost(h); err != nil {
		t.Fatal(err)
	}
	if err := <-guest; err != nil {
		t.Fatal(err)
	}
}

func TestSyncEndsWithTheStream(t *testing.T) {
	h, g := connected(t)
	_ = g.Close()
	if err := SyncHost(h); err == nil {
		t.Error("the host did not notice")
	}
	if err := SyncGuest(h); err == nil {
		t.Error("the guest did not notice")
	}
}

// FuzzSync: no garbage on either side prevents the handshake or costs a byte
// behind it.
func FuzzSync(f *testing.F) {
	f.Add([]byte("BNGRHELO0123456789abcdef"), []byte("BNGRSYNC0123456789abcdef0123456789abcdef"))
	f.Add([]byte("BNGRBEGN0123456789abcdef"), []byte{0, 0, 0, 1})
	f.Add([]byte("BNGRBNGRHELOBNGR"), bytes.Repeat([]byte{0xff}, 48))
	f.Fuzz(func(t *testing.T, toHost, toGuest []byte) {
		if len(toHost) > 1<<12 || len(toGuest) > 1<<12 {
			t.Skip("long enough to be slow, not to be new")
		}
		handshake(t, toHost, toGuest)
	})
}

func TestCoalesceKeepsTheBytesAndJoinsTheWrites(t *testing.T) {
	rec := &recorder{}
	c := Coalesce(rec)
	data := []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3} // a data header of 3 bytes
	update := []byte{0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9}
	empty := []byte{0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0}
	var want []byte
	for _, p := range [][]byte{update, data, []byte("abc"), empty, data, []byte("twelve bytes"), data, make([]byte, maxJoined+1)} {
		want = append(want, p...)
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if !bytes.Equal(rec.all, want) {
		t.Error("the bytes differ")
	}
	if rec.writes != 6 {
		t.Errorf("%d writes, want update, joined, empty, joined, header, body", rec.writes)
	}
}

type recorder struct {
	io.ReadCloser
	all    []byte
	writes int
}

func (r *recorder) Write(p []byte) (int, error) {
	r.writes++
	r.all = append(r.all, p...)
	return len(p), nil
}
