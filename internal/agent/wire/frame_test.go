package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

type frame struct {
	t       FrameType
	payload []byte
}

// readFrames joins the pieces of neighbouring frames that carry bytes.
func readFrames(r *FrameReader) (all []frame, err error) {
	for {
		t, p, err := r.Next()
		if err != nil {
			return all, err
		}
		if n := len(all); n > 0 && all[n-1].t == t && t.carriesBytes() {
			all[n-1].payload = append(all[n-1].payload, p...)
			continue
		}
		all = append(all, frame{t, bytes.Clone(p)})
	}
}

func TestFramesComeBackAsTheyWereWritten(t *testing.T) {
	big := make([]byte, MaxFrame)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	code := 7
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "halves": iotest.HalfReader, "with EOF": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := NewFrameWriter(&b)
			for _, err := range []error{
				WriteRequest(&b, Request{Argv: []Text{"a"}}),
				w.Write(FrameStdin, []byte("in")),
				w.WriteInPlace(FrameStdout, append(make([]byte, FrameHeaderSize), big...)),
				w.Write(FrameStdinEnd, nil),
				w.WriteResize(24, 80),
				w.Write(FrameSignal, []byte{15}),
				w.WriteUint32(FrameCredit, 1<<31),
				w.Write(FrameStderr, nil),
				w.WriteExit(Exit{Code: &code}),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			r := NewFrameReader(wrap(&b))
			if req, err := r.Request(); err != nil || !slices.Equal(req.Argv, []Text{"a"}) {
				t.Fatalf("request %v, %v", req, err)
			}
			got, err := readFrames(r)
			if err != io.EOF {
				t.Fatalf("at the end: %v", err)
			}
			want := []frame{
				{FrameStdin, []byte("in")},
				{FrameStdout, big},
				{FrameStdinEnd, nil},
				{FrameResize, []byte{0, 24, 0, 80}},
				{FrameSignal, []byte{15}},
				{FrameCredit, []byte{0x80, 0, 0, 0}},
				{FrameStderr, nil},
				{FrameExit, []byte(`{"code":7}`)},
			}
			if !slices.EqualFunc(got, want, func(a, b frame) bool { return a.t == b.t && bytes.Equal(a.payload, b.payload) }) {
				t.Fatalf("got %d frames, not those written", len(got))
			}
		})
	}
}

type countingWriter struct{ writes int }

func (c *countingWriter) Write(p []byte) (int, error) { c.writes++; return len(p), nil }

func TestAFrameIsOneWriteWithoutAllocation(t *testing.T) {
	c := &countingWriter{}
	w := NewFrameWriter(c)
	bulk := make([]byte, FrameHeaderSize+64<<10)
	allocs := testing.AllocsPerRun(10, func() {
		_ = w.WriteInPlace(FrameStdout, bulk)
		_ = w.Write(FrameStdin, bulk[:100])
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if c.writes != 22 { // AllocsPerRun runs once more to warm up
		t.Errorf("%d writes for 22 frames", c.writes)
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	for name, input := range map[string]string{
		"unknown type":           "\x08\x00\x00\x00\x00",
		"too long":               "\x00\x00\x10\x00\x01",
		"too long for a control": "\x06\x00\x01\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := NewFrameReader(strings.NewReader(input)).Next(); !errors.Is(err, ErrFrame) {
				t.Errorf("got %v", err)
			}
		})
	}
	w := NewFrameWriter(io.Discard)
	if err := w.Write(FrameStdout, make([]byte, MaxFrame+1)); !errors.Is(err, ErrFrame) {
		t.Errorf("writing too much: %v", err)
	}
}

func TestACutStreamIsNoEnd(t *testing.T) {
	var b bytes.Buffer
	w := NewFrameWriter(&b)
	_ = w.Write(FrameStdout, []byte("12345"))
	_ = w.WriteResize(1, 2)
	whole := b.Bytes()
	for n := 1; n < len(whole); n++ {
		_, err := readFrames(NewFrameReader(bytes.NewReader(whole[:n])))
		want := io.ErrUnexpectedEOF
		if n == FrameHeaderSize+5 { // between the two
			want = io.EOF
		}
		if err != want {
			t.Errorf("cut after %d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestPayloads(t *testing.T) {
	if rows, cols, err := ParseResize([]byte{1, 2, 3, 4}); err != nil || rows != 0x102 || cols != 0x304 {
		t.Errorf("resize %d %d %v", rows, cols, err)
	}
	for _, p := range [][]byte{nil, {0}, {65}, {1, 2}} {
		if _, err := ParseSignal(p); !errors.Is(err, ErrFrame) {
			t.Errorf("signal %v: %v", p, err)
		}
	}
	for _, p := range []string{``, `{}`, `{"code":0,"signal":1}`, `{"signal":9,"error":{"code":1}}`, `[]`} {
		if _, err := ParseExit([]byte(p)); !errors.Is(err, ErrFrame) {
			t.Errorf("exit %s: %v", p, err)
		}
	}
	if e, err := ParseExit([]byte(`{"code":0}`)); err != nil || e.Code == nil || *e.Code != 0 {
		t.Errorf("exit 0: %v %v", e, err)
	}
}

func TestALongErrorStillFitsItsFrame(t *testing.T) {
	var b bytes.Buffer
	if err := NewFrameWriter(&b).WriteExit(Exit{Error: &Error{Code: 127, Message: strings.Repeat("\x01", 1<<20)}}); err != nil {
		t.Fatal(err)
	}
	typ, p, err := NewFrameReader(&b).Next()
	if err != nil || typ != FrameExit {
		t.Fatalf("%v %v", typ, err)
	}
	if e, err := ParseExit(p); err != nil || e.Error.Code != 127 {
		t.Errorf("%v %v", e, err)
	}
}

func TestRequestOfAnyBytes(t *testing.T) {
	var every []byte
	for i := 1; i < 256; i++ {
		every = append(every, byte(i))
	}
	want := Request{Argv: []Text{"", "a b", Text(every), "\xff", "ünï"}, Env: []Text{"K=\x80"}, Cwd: "/\xfe", User: "u", TTY: true, Rows: 1, Cols: 2}
	var b bytes.Buffer
	if err := WriteRequest(&b, want); err != nil {
		t.Fatal(err)
	}
	b.WriteString("rest")
	r := NewFrameReader(&b)
	got, err := r.Request()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Argv, want.Argv) || !slices.Equal(got.Env, want.Env) || got.Cwd != want.Cwd || got.User != "u" || !got.TTY || got.Rows != 1 || got.Cols != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestRequestIsBounded(t *testing.T) {
	if err := WriteRequest(io.Discard, Request{Argv: []Text{Text(strings.Repeat("x", MaxRequest))}}); err == nil {
		t.Error("a request too long was written")
	}
	endless := io.MultiReader(strings.NewReader(`{"argv":["`), neverending('x'))
	if _, err := NewFrameReader(endless).Request(); !errors.Is(err, ErrFrame) {
		t.Errorf("endless request: %v", err)
	}
	long := strings.Repeat("y", 3<<20) // longer than any buffer, and allowed
	var b bytes.Buffer
	if err := WriteRequest(&b, Request{Argv: []Text{Text(long)}}); err != nil {
		t.Fatal(err)
	}
	if req, err := NewFrameReader(&b).Request(); err != nil || string(req.Argv[0]) != long {
		t.Errorf("long request: %v", err)
	}
}

type neverending byte

func (n neverending) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(n)
	}
	return len(p), nil
}

// FuzzFrames: whatever comes, the reader ends without a panic, and what it takes
// for frames is the same however the bytes arrive.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x03abc\x06\x00\x00\x00\x0a{\"code\":1}"))
	f.Add([]byte("\x04\x00\x00\x00\x04\x00\x18\x00\x50"))
	f.Add([]byte("\x02\xff\xff\xff\xff"))
	f.Add([]byte("\x07\x00\x00"))
	f.Fuzz(func(t *testing.T, input []byte) {
		whole, err1 := readFrames(NewFrameReader(bytes.NewReader(input)))
		single, err2 := readFrames(NewFrameReader(iotest.OneByteReader(bytes.NewReader(input))))
		if (err1 == nil) != (err2 == nil) || err1.Error() != err2.Error() {
			t.Fatalf("%v, bytewise %v", err1, err2)
		}
		if !slices.EqualFunc(whole, single, func(a, b frame) bool { return a.t == b.t && bytes.Equal(a.payload, b.payload) }) {
			t.Fatal("frames depend on how they arrive")
		}
		for _, fr := range whole {
			_, _, _ = ParseResize(fr.payload)
			_, _ = ParseSignal(fr.payload)
			_, _ = ParseCredit(fr.payload)
			_, _ = ParseExit(fr.payload)
		}
	})
}

// FuzzRequest: a line that is taken for a request is one that can be written again.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"argv":["sh","-c","exit 1"],"env":["A=b"],"cwd":"/","tty":true,"rows":1,"cols":2}` + "\n"))
	f.Add([]byte(`{"argv":[{"b64":"/w=="}]}` + "\n"))
	f.Add([]byte("{}"))
	f.Add([]byte(`{"argv":[{"b64":7}]}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		req, err := NewFrameReader(bytes.NewReader(line)).Request()
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteRequest(&b, req); err != nil {
			t.Fatal(err)
		}
		again, err := NewFrameReader(&b).Request()
		if err != nil || !slices.Equal(again.Argv, req.Argv) || !slices.Equal(again.Env, req.Env) || again.Cwd != req.Cwd {
			t.Fatalf("%+v became %+v, %v", req, again, err)
		}
	})
}
