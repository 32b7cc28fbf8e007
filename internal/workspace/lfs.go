package workspace

import "bytes"

// maxPointer is how long a pointer of git LFS can be.
const maxPointer = 1024

// lfsPointer keeps the content of a small file, to tell one that stands for
// content which git LFS has not fetched.
type lfsPointer struct{ bytes.Buffer }

func (p *lfsPointer) is() bool {
	return bytes.HasPrefix(p.Bytes(), []byte("version https://git-lfs.github.com/spec/v1\noid "))
}
