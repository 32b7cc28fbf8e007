package wire

// Files go through the control port as tar, below the paths of wire.go. A
// request is one JSON object: the whole body of a stat or a read, and the first
// line of the body of a write, behind which the tar begins. The answer of a
// read is a tar. Bodies whose end is not known beforehand are chunked. What
// fails in the middle of an answer is the value of HeaderError, a FileError as
// JSON, behind the last chunk.
//
// Paths are the guest's own: links in them count, links in an archive never.

// HeaderError is the trailer that says why an answer is not whole.
const HeaderError = "Banger-Error"

// MaxFilesRequest bounds the JSON object of a request.
const MaxFilesRequest = 1 << 20

// Place is a path in the guest and whose rights count.
type Place struct {
	Path Text   `json:"path"`           // absolute, or below the user's home if Home is set
	User string `json:"user,omitempty"` // as in Request; "" is root, or with Home the VM's own user
	Home bool   `json:"home,omitempty"`
}

// StatFile asks what is at a place: PathStat.
type StatFile struct {
	Place
	Follow bool `json:"follow"` // what a link leads to, not the link
}

// FileStat is what is at a place.
type FileStat struct {
	Exists bool   `json:"exists"`
	Path   Text   `json:"path"` // without a link at its end, if the request follows
	Kind   string `json:"kind"` // file, dir, symlink or other
	Mode   uint32 `json:"mode"` // permission bits
	Size   int64  `json:"size"`
	Parent bool   `json:"parent"` // the directory that it is or would be in is there
}

// The kinds of a FileStat.
const (
	KindFile    = "file"
	KindDir     = "dir"
	KindSymlink = "symlink"
	KindOther   = "other"
)

// ReadFiles asks for what is at a place, with all below it: PathRead.
type ReadFiles struct {
	Place
	As Text `json:"as"` // its name in the tar; "." has what is in a directory at the top
}

// WriteFiles precedes a tar that is unpacked in the directory at a place:
// PathWrite.
type WriteFiles struct {
	Place
	// Keep gives files the owners that the tar names. Otherwise they are the
	// user's.
	Keep bool `json:"keep,omitempty"`
}

// WroteFiles is what became of a write.
type WroteFiles struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	LeftOut int64 `json:"left_out"` // entries that no file can be made of
}

// FileError is why a request about files failed.
type FileError struct {
	Kind    string `json:"kind"` // not_found, invalid, conflict, or "" for what just failed
	Message string `json:"error"`
}

func (e *FileError) Error() string { return e.Message }
