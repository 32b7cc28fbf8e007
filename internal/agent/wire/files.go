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
	Path Text   `json:"path"`           // absolute, or with Own below the user's home
	User string `json:"user,omitempty"` // as in Request; "" is root, or with Own the VM's own user
	Own  bool   `json:"own,omitempty"`
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
	// Room is that of the file system that it is or would be on; agents of before do
	// not say.
	Room *Room `json:"room,omitempty"`
}

// Room is what a file system has left for whoever asks.
type Room struct {
	Bytes int64 `json:"bytes"`
	Files int64 `json:"files"` // -1: it does not count them
	Size  int64 `json:"size"`  // of all of it
	Root  bool  `json:"root"`  // it is the root file system
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
	// Make has the directory made if it is not there.
	Make bool `json:"make,omitempty"`
	// Stamps asks for a Stamp of each file, behind the WroteFiles, a line each.
	Stamps bool `json:"stamps,omitempty"`
}

// Stamp is a file as it was at a moment: as long as none of this has changed,
// nobody has written to it.
type Stamp struct {
	Path  Text   `json:"p"` // below the directory that was asked about
	Mode  uint32 `json:"m"` // with its type, as the kernel has it
	Size  int64  `json:"s"`
	MTime int64  `json:"t"` // both in nanoseconds since 1970
	CTime int64  `json:"c"`
}

// ChangesRequest asks which files below a directory are no longer as stamps
// say: PathChanges. A line for each Stamp follows; the answer is a line for each
// Change, in no order. Directories count only by what they hold.
type ChangesRequest struct {
	Place
	Git bool `json:"git,omitempty"` // what is in a directory called .git too
}

// Change is a file that differs.
type Change struct {
	Stamp
	Gone bool `json:"gone,omitempty"` // it is not there any more; Stamp has its path alone
}

// PickRequest asks for a tar of some files below a directory: PathPick. A line
// follows for each, its path as a Text. What is not there is left out.
type PickRequest struct{ Place }

// RemoveRequest asks to remove files below a directory: PathRemove. A line
// follows for each, its path as a Text. Directories that are empty then go too.
type RemoveRequest struct{ Place }

// SealRequest asks to make a directory and all below it unwritable for
// everybody until the VM stops: PathSeal. Off undoes it.
type SealRequest struct {
	Place
	Off bool `json:"off,omitempty"`
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
