package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestDialLinesAreReadToTheByte(t *testing.T) {
	var b bytes.Buffer
	req := DialRequest{Network: "udp", Port: 53}
	if err := WriteDial(&b, req); err != nil {
		t.Fatal(err)
	}
	b.WriteString("what follows")
	got, err := ReadDial[DialRequest](&b)
	if err != nil || got != req || b.String() != "what follows" {
		t.Errorf("%+v %v, and then %q", got, err, b.String())
	}
	if _, err := ReadDial[DialAnswer](strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("an agent that does not know the port: %v", err)
	}
	if _, err := ReadDial[DialAnswer](strings.NewReader("{")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a line: %v", err)
	}
	if _, err := ReadDial[DialAnswer](strings.NewReader(strings.Repeat("x", 1<<20))); !errors.Is(err, ErrDial) {
		t.Errorf("a line without end: %v", err)
	}
}

// FuzzDial: whatever a guest or a host says is bounded, and pieces are read as
// they were written.
func FuzzDial(f *testing.F) {
	f.Add([]byte(`{"network":"tcp","port":80}` + "\n\x00\x00\x03abc\x01\x00\x00"))
	f.Add([]byte(`{"port":99999}` + "\n"))
	f.Add([]byte("{}\n\x01\x00\x01x"))
	f.Add([]byte("{}\n\xff\xff\xff"))
	f.Add([]byte(`{"window":65536}` + "\n\x02\x00\x04\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, input []byte) {
		r := bytes.NewReader(input)
		if _, err := ReadDial[DialRequest](r); err != nil {
			return
		}
		for {
			at := len(input) - r.Len()
			kind, length, err := ReadPieceHeader(r)
			if err != nil {
				return
			}
			if length > MaxPiece || (kind == PieceEnd && length != 0) || (kind == PieceTaken && length != sizeTaken) {
				t.Fatalf("a piece of type %d and %d bytes", kind, length)
			}
			buf := make([]byte, PieceHeaderSize+length)
			if _, err := io.ReadFull(r, buf[PieceHeaderSize:]); err != nil {
				return
			}
			var again bytes.Buffer
			if err := WritePiece(&again, kind, buf); err != nil || !bytes.Equal(again.Bytes(), input[at:at+len(buf)]) {
				t.Fatalf("%q is written as %q (%v)", input[at:at+len(buf)], again.Bytes(), err)
			}
		}
	})
}
