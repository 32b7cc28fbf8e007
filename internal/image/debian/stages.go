package debian

import (
	"bytes"
	"strings"

	"banger.dev/banger"
)

// messages are mmdebstrap's stages, by what its line begins with, in order.
var messages = [...]struct{ begins, message string }{
	{"I: running apt-get update", "read the package lists"},
	{"I: downloading packages", "download packages"},
	{"I: extracting archives", "unpack packages"},
	{"I: installing essential", "install the essential packages"},
	{"I: installing remaining", "install the other packages"},
	{"I: cleaning package lists", "clean up"},
	{"I: creating tarball", "pack"},
}

// stages reports what mmdebstrap says on stderr.
type stages struct {
	suite  string
	report banger.ProgressFunc
	line   []byte
}

// maxLine bounds the part of a line that is looked at.
const maxLine = 200

func (s *stages) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte{'\n'})
		s.line = append(s.line, part[:min(len(part), maxLine-len(s.line))]...)
		if ended {
			s.say(string(s.line))
			s.line = s.line[:0]
		}
		rest = after
	}
	return len(p), nil
}

func (s *stages) say(line string) {
	for i, m := range messages {
		if strings.HasPrefix(line, m.begins) {
			s.report.Report(banger.Progress{
				Stage: "image", Message: "bootstrap Debian " + s.suite + ": " + m.message,
				Done: int64(i), Total: int64(len(messages)),
			})
		}
	}
}
