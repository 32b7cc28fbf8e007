package guest

import (
	"context"
	"io"
	"net"

	"banger.dev/banger/internal/agent/wire"
)

// WriteStream is Write of a tar that is not at hand but comes, as on stdin. A Read
// of it that is under way when the guest has answered, or ctx has ended, is not
// waited for, and what it still takes is lost.
func (f Files) WriteStream(ctx context.Context, req wire.WriteFiles, tar io.Reader) (wire.WroteFiles, error) {
	out, in := io.Pipe()
	end := func() { _ = in.CloseWithError(errStream) }
	defer end()
	go func() {
		_, err := io.CopyBuffer(in, struct{ io.Reader }{tar}, make([]byte, sendBuffer))
		_ = in.CloseWithError(err) // nil is the end
	}()
	dial := f.Dial
	f.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		return &feeding{conn, end}, err
	}
	return f.Write(ctx, req, func(w io.Writer) error {
		_, err := io.Copy(w, out)
		return err
	})
}

// feeding is a connection that ends with itself what it is fed from.
type feeding struct {
	net.Conn
	end func()
}

func (f *feeding) Close() error {
	f.end()
	return f.Conn.Close()
}
