package wire

// Request is the one JSON line that opens a stream to PortExec. After it both
// sides send frames: the host FrameStdin, FrameStdinEnd, FrameResize and
// FrameSignal; the agent FrameStdout, FrameStderr, FrameCredit and at last
// FrameExit, after which it closes. A host that closes first has lost interest: the command's
// process group gets SIGHUP, and SIGKILL after 5 seconds.
type Request struct {
	Argv []Text `json:"argv"` // to execve, no shell; argv[0] is looked up in PATH unless it has a slash
	Env  []Text `json:"env"`  // K=V, over the VM's environment
	Cwd  Text   `json:"cwd"`  // "" is the VM's default, else the user's home, else /
	User string `json:"user"` // name, uid, name:group or uid:gid; "" is the VM's default, else root
	TTY  bool   `json:"tty"`
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// MaxRequest bounds the request line. Linux bounds argv and env together by a
// quarter of the stack limit, 2 MiB by default; JSON escapes at most 6-fold.
const MaxRequest = 16 << 20

// FrameType says what a frame carries. On the stream a frame is its type (u8),
// the length of its payload (u32, big endian) and the payload.
type FrameType uint8

// The frame types.
const (
	FrameStdin    FrameType = 0 // bytes for stdin
	FrameStdinEnd FrameType = 1 // empty: stdin is closed
	FrameStdout   FrameType = 2 // bytes from stdout, or from the terminal
	FrameStderr   FrameType = 3 // bytes from stderr
	FrameResize   FrameType = 4 // rows u16, cols u16, big endian
	FrameSignal   FrameType = 5 // u8, a Linux signal number, for the command's process group
	FrameExit     FrameType = 6 // JSON Exit; the last frame
	FrameCredit   FrameType = 7 // u32, big endian, to the host: so many more bytes of stdin may be sent

	lastFrameType = FrameCredit
)

// InitialCredit is how many bytes of stdin the host may send before the first
// FrameCredit. A command that does not read its stdin thus never fills the
// stream, and signals, resizes and the stream's end always get through. More
// than the credit is a protocol error.
const InitialCredit = 1 << 20

// MaxFrame bounds a frame's payload; a longer one is a protocol error.
const MaxFrame = 1 << 20

// Exit is how a command ended: exactly one of the three is set.
type Exit struct {
	Code   *int   `json:"code,omitempty"`
	Signal int    `json:"signal,omitempty"` // Linux number; the caller exits with 128 + Signal
	Error  *Error `json:"error,omitempty"`  // it was not run
}

// Error says why a command was not run. The caller exits with Code.
type Error struct {
	Code    int    `json:"code"` // 127 not found, 126 cannot be run, 125 the agent's own failure
	Message string `json:"message"`
}
