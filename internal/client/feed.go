package client

import (
	"context"
	"io"
	"net/http/httptrace"
)

// feedBuffer is how much of what comes is taken at a time.
const feedBuffer = 256 << 10

// feed is a body that comes from outside, as stdin does, for a request with the
// context that is returned. net/http says of no request that it has failed while a
// Read of its body is under way; so that one is left behind when ctx ends, or the
// connection does, and what it still takes is lost.
func feed(ctx context.Context, stream io.Reader) (context.Context, io.Reader) {
	out, in := io.Pipe()
	go func() {
		_, err := io.CopyBuffer(in, struct{ io.Reader }{stream}, make([]byte, feedBuffer))
		_ = in.CloseWithError(err) // nil is the end
	}()
	context.AfterFunc(ctx, func() { _ = in.CloseWithError(ctx.Err()) })
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		go func() {
			<-got.Conn.(*heard).ended
			_ = in.CloseWithError(io.ErrUnexpectedEOF)
		}()
	}}), out
}
