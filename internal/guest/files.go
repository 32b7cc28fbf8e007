package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
)

// Files carries files to and from one guest, over its control port. The daemon
// has no part in it.
type Files struct {
	// Dial opens a stream to wire.PortControl.
	Dial func(ctx context.Context) (net.Conn, error)
	// Name is the VM's, for the errors.
	Name string
}

// NewFiles carries files over a VM's guest socket.
func NewFiles(name, socket string) Files {
	return Files{Name: name, Dial: func(ctx context.Context) (net.Conn, error) { return Dial(ctx, socket, wire.PortControl) }}
}

// sendBuffer joins what is sent in small pieces.
const sendBuffer = 256 << 10

// Stat says what is at a place; what the guest answers may be anything.
func (f Files) Stat(ctx context.Context, req wire.StatFile) (wire.FileStat, error) {
	var stat wire.FileStat
	body, err := f.post(ctx, wire.PathStat, jsonBody(req))
	if err != nil {
		return stat, err
	}
	defer func() { _ = body.Close() }()
	return stat, f.decode(body, &stat)
}

// Read gives a tar of what is at a place. The reader's error tells that the
// guest could not read it all. Its caller closes it.
func (f Files) Read(ctx context.Context, req wire.ReadFiles) (io.ReadCloser, error) {
	return f.post(ctx, wire.PathRead, jsonBody(req))
}

// Write unpacks the tar that send writes in the directory at a place. If both
// sides fail it is the guest's word that counts.
func (f Files) Write(ctx context.Context, req wire.WriteFiles, send func(io.Writer) error) (wire.WroteFiles, error) {
	done, _, err := f.WriteStamped(ctx, req, send)
	return done, err
}

// WriteStamped is Write, and gives the stamps that req may have asked for.
func (f Files) WriteStamped(ctx context.Context, req wire.WriteFiles, send func(io.Writer) error) (wire.WroteFiles, []wire.Stamp, error) {
	var done wire.WroteFiles
	var unsent error
	body, err := f.post(ctx, wire.PathWrite, func(w io.Writer) error {
		if err := json.NewEncoder(w).Encode(req); err != nil {
			return err
		}
		unsent = send(w)
		return unsent
	})
	if err != nil {
		if unsent != nil && !errors.Is(unsent, errStream) && !fromGuest(err) {
			err = unsent
		}
		return done, nil, err
	}
	defer func() { _ = body.Close() }()
	lines := json.NewDecoder(&bounded{r: body, left: maxLines})
	if err := lines.Decode(&done); err != nil {
		return done, nil, f.failed(fmt.Errorf("its answer: %w", err))
	}
	stamps, err := decodeAll[wire.Stamp](lines)
	if err != nil {
		return done, nil, f.failed(fmt.Errorf("its answer: %w", err))
	}
	return done, stamps, nil
}

// maxLines bounds an answer that is a line for each file.
const maxLines = 256 << 20

func decodeAll[T any](lines *json.Decoder) ([]T, error) {
	var all []T
	for {
		var v T
		err := lines.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
}

// Changes are the files below a directory that are not as stamps say.
func (f Files) Changes(ctx context.Context, req wire.ChangesRequest, stamps []wire.Stamp) ([]wire.Change, error) {
	body, err := f.post(ctx, wire.PathChanges, func(w io.Writer) error { return encodeAll(w, req, stamps) })
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	all, err := decodeAll[wire.Change](json.NewDecoder(&bounded{r: body, left: maxLines}))
	if err != nil {
		return nil, f.failed(fmt.Errorf("its answer: %w", err))
	}
	return all, nil
}

// Pick gives a tar of the files with these names below a directory. Its caller
// closes it.
func (f Files) Pick(ctx context.Context, at wire.Place, names []string) (io.ReadCloser, error) {
	return f.post(ctx, wire.PathPick, func(w io.Writer) error { return encodeAll(w, wire.PickRequest{Place: at}, texts(names)) })
}

// Remove removes the files with these names below a directory.
func (f Files) Remove(ctx context.Context, at wire.Place, names []string) error {
	return f.done(f.post(ctx, wire.PathRemove, func(w io.Writer) error { return encodeAll(w, wire.RemoveRequest{Place: at}, texts(names)) }))
}

// Seal makes a directory unwritable for everybody, or undoes that.
func (f Files) Seal(ctx context.Context, req wire.SealRequest) error {
	return f.done(f.post(ctx, wire.PathSeal, jsonBody(req)))
}

// done is the end of a request whose answer says nothing.
func (f Files) done(body io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(body, maxAnswer))
	return err
}

func encodeAll[T any](w io.Writer, req any, all []T) error {
	enc := json.NewEncoder(w)
	if err := enc.Encode(req); err != nil {
		return err
	}
	for _, v := range all {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func texts(names []string) []wire.Text {
	all := make([]wire.Text, len(names))
	for i, name := range names {
		all[i] = wire.Text(name)
	}
	return all
}

func jsonBody(req any) func(io.Writer) error {
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(req) }
}

func (f Files) decode(body io.Reader, answer any) error {
	b, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(b, answer)
	}
	if err != nil {
		return f.failed(fmt.Errorf("its answer: %w", err))
	}
	return nil
}

// errStream marks a failure of the stream itself, whose reason the other side has.
var errStream = errors.New("the stream to the guest broke")

// fromGuest says whether the guest itself has said err.
func fromGuest(err error) bool {
	var said *wire.FileError
	return errors.As(err, &said)
}

// post sends a request, its body in chunks, and gives the body of the answer.
// The guest may answer before it has read all.
func (f Files) post(ctx context.Context, path string, send func(io.Writer) error) (io.ReadCloser, error) {
	conn, err := f.Dial(ctx)
	if err != nil {
		return nil, f.failed(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	sent := make(chan error, 1)
	go func() {
		err := sendChunked(conn, path, send)
		switch {
		case errors.Is(err, errStream): // the guest may have said why
			_ = conn.SetReadDeadline(time.Now().Add(lastWords))
		case err != nil: // it waits for more, and nothing more comes
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		}
		sent <- err
	}()
	head := &bounded{r: conn, left: maxAnswer}
	resp, err := http.ReadResponse(bufio.NewReaderSize(head, sendBuffer), nil) //nolint:bodyclose // it is the connection's: answerBody closes that
	// What follows is bounded by whoever reads it.
	head.left = math.MaxInt64
	if err == nil && resp.StatusCode >= 300 {
		err = refused(resp, path)
	}
	if err != nil {
		_ = conn.Close()
		stop()
		if serr := <-sent; serr != nil && !fromGuest(err) && !errors.Is(serr, errStream) {
			err = serr
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, f.failed(err)
	}
	return &answerBody{ctx: ctx, resp: resp, conn: conn, stop: stop, files: f}, nil
}

// lastWords is how long a guest has to say why it takes no more.
const lastWords = 5 * time.Second

func sendChunked(conn net.Conn, path string, send func(io.Writer) error) error {
	head := "POST " + path + " HTTP/1.1\r\nHost: guest\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	chunks := &chunkWriter{w: conn}
	out := bufio.NewWriterSize(chunks, sendBuffer)
	if err := send(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "0\r\n\r\n"); err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	return nil
}

// chunkWriter makes a chunk of each write.
type chunkWriter struct {
	w     io.Writer
	frame []byte
}

func (c *chunkWriter) Write(p []byte) (int, error) {
	c.frame = fmt.Appendf(c.frame[:0], "%x\r\n", len(p))
	c.frame = append(append(c.frame, p...), "\r\n"...)
	if _, err := c.w.Write(c.frame); err != nil {
		return 0, fmt.Errorf("%w: %w", errStream, err)
	}
	return len(p), nil
}

// refused is the guest's refusal, in words of its own.
func refused(resp *http.Response, path string) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	said := &wire.FileError{}
	if json.Unmarshal(b, said) != nil || said.Message == "" {
		said.Message = fmt.Sprintf("%.100q", resp.Status)
	}
	if resp.StatusCode == http.StatusNotFound && said.Kind == "" || resp.StatusCode == http.StatusNotImplemented {
		return errOldAgent
	}
	return said
}

// errOldAgent means that the agent is of before this request.
var errOldAgent = errors.New("its agent is older than this command and carries no files")

// failed is err for the person who wanted the files.
func (f Files) failed(err error) error {
	var said *wire.FileError
	var ours *banger.Error
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &said):
		return banger.Errorf(kindOf(said.Kind), "%s: %w", f.Name, shortened(said))
	case errors.Is(err, errOldAgent):
		return banger.Errorf(banger.KindUnavailable, "%s: %w", f.Name, err).WithNext("banger vm restart %s", f.Name)
	case errors.Is(err, ErrNoAgent):
		return banger.Errorf(banger.KindUnavailable, "the agent in %s does not answer", f.Name).WithNext("banger vm show %s", f.Name)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, errStream):
		return banger.Errorf(banger.KindUnavailable, "%s stopped, or its agent did, before all was copied", f.Name).WithNext("banger vm show %s", f.Name)
	}
	return banger.Errorf(banger.KindUnavailable, "%s: %w", f.Name, err).WithNext("banger vm show %s", f.Name)
}

// maxSaid bounds what is repeated of a guest's words.
const maxSaid = 1000

// shortened is what a guest has said, on one line: another would look as if it were
// ours.
func shortened(said *wire.FileError) *wire.FileError {
	message := strings.ReplaceAll(said.Message, "\n", " ")
	if len(message) > maxSaid {
		message = message[:maxSaid] + "…"
	}
	return &wire.FileError{Kind: said.Kind, Message: message}
}

func kindOf(kind string) banger.Kind {
	switch kind {
	case "not_found":
		return banger.KindNotFound
	case "invalid":
		return banger.KindInvalid
	case "conflict":
		return banger.KindConflict
	}
	return banger.KindUnavailable
}

// bounded reads so many bytes. It is for the head of an answer, which net/http
// reads however long it is.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("its answer has no end")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// answerBody is the body of an answer, whose end is looked at for a failure.
type answerBody struct {
	ctx   context.Context
	resp  *http.Response
	conn  net.Conn
	stop  func() bool
	files Files
}

func (a *answerBody) Read(p []byte) (int, error) {
	n, err := a.resp.Body.Read(p)
	switch {
	case err == nil:
	case a.ctx.Err() != nil:
		err = context.Cause(a.ctx)
	case !errors.Is(err, io.EOF):
		err = a.files.failed(fmt.Errorf("%w: %w", errStream, err))
	default:
		if said := a.resp.Trailer.Get(wire.HeaderError); said != "" {
			failure := &wire.FileError{}
			if json.NewDecoder(bytes.NewReader([]byte(said))).Decode(failure) != nil {
				failure.Message = fmt.Sprintf("%.500q", said)
			}
			err = a.files.failed(failure)
		}
	}
	return n, err
}

func (a *answerBody) Close() error {
	a.stop()
	return a.conn.Close()
}
