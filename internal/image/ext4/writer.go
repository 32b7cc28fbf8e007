package ext4

import (
	"errors"
	"io"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
)

// chunk is how much of a file is read at a time. A chunk of zeros becomes a
// hole; smaller ones do not, so that nobody can make a file of holes whose map
// is larger than its content.
const chunk = 64 << 10

// writer fills a skeleton: contents in the order in which they come, then the
// tree. Blocks are given out in ascending order.
type writer struct {
	*skeleton
	next  uint32 // the first block that may be free
	data  output
	table output // inodes
	zero  [chunk]byte
	buf   [chunk]byte
}

func newWriter(f *os.File) (*writer, error) {
	s, err := openSkeleton(f)
	if err != nil {
		return nil, err
	}
	return &writer{skeleton: s, data: output{f: f}, table: output{f: f}}, errors.Join(s.empty(rootInode), s.empty(firstInode))
}

// output gathers what lies side by side in a file into long writes.
type output struct {
	f       *os.File
	at      int64
	pending []byte
}

const maxPending = 1 << 20

func (o *output) write(at int64, p []byte) error {
	if at != o.at+int64(len(o.pending)) || len(o.pending)+len(p) > maxPending {
		if err := o.flush(); err != nil {
			return err
		}
		o.at = at
	}
	if o.pending == nil {
		o.pending = make([]byte, 0, maxPending)
	}
	o.pending = append(o.pending, p...)
	return nil
}

func (o *output) flush() error {
	_, err := o.f.WriteAt(o.pending, o.at)
	o.at += int64(len(o.pending))
	o.pending = o.pending[:0]
	return err
}

// allocate takes the next run of free blocks, at most n of them.
func (w *writer) allocate(n uint32) (start, got uint32, err error) {
	for w.next < w.blocks {
		b, err := w.bitmap(w.next / w.blocksPerGroup)
		if err != nil {
			return 0, 0, err
		}
		i, end := w.next%w.blocksPerGroup, w.size(w.next/w.blocksPerGroup)
		for i < end && b.has(i) {
			i++
		}
		start = w.next - w.next%w.blocksPerGroup + i
		for got < n && i < end && !b.has(i) {
			b.set(i)
			i++
			got++
		}
		w.next = start + got
		if got > 0 {
			return start, got, nil
		}
	}
	return 0, 0, banger.Errorf(banger.KindInvalid, "the contents do not fit on a disk of %s", banger.Bytes(w.blocks)*blockSize)
}

// drop frees the content of a file that is no longer there.
func (w *writer) drop(n *layer.Node) error {
	var failed error
	for _, r := range n.Runs {
		failed = errors.Join(failed, w.release(r.Start, r.Len))
	}
	n.Runs = nil
	return failed
}

// put writes blocks to the end of a file, at a logical block. p is padded.
func (w *writer) put(runs []layer.Run, logical uint32, p []byte) ([]layer.Run, error) {
	for len(p) > 0 {
		start, n, err := w.allocate(uint32(len(p)+blockSize-1) / blockSize)
		if err != nil {
			return runs, err
		}
		part := p[:min(len(p), int(n)*blockSize)]
		p = p[len(part):]
		at := int64(start) * blockSize
		err = w.data.write(at, part)
		if pad := int(n)*blockSize - len(part); pad > 0 && err == nil {
			err = w.data.write(at+int64(len(part)), w.zero[:pad])
		}
		if err != nil {
			return runs, err
		}
		runs = extend(runs, layer.Run{Logical: logical, Start: start, Len: n})
		logical += n
	}
	return runs, nil
}

// maxRun is the longest extent.
const maxRun = 32768

// extend adds a run, to the last one if it goes on there.
func extend(runs []layer.Run, r layer.Run) []layer.Run {
	if len(runs) > 0 {
		if last := &runs[len(runs)-1]; last.Logical+last.Len == r.Logical && last.Start+last.Len == r.Start && last.Len+r.Len <= maxRun {
			last.Len += r.Len
			return runs
		}
	}
	return append(runs, r)
}

// content writes a regular file's content.
func (w *writer) content(n *layer.Node, r io.Reader) error {
	if n.Size > int64(maxFile) {
		return banger.Errorf(banger.KindInvalid, "a file of %s is larger than ext4 has them", banger.Bytes(n.Size))
	}
	for done := int64(0); done < n.Size; {
		p := w.buf[:min(chunk, n.Size-done)]
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		if string(p) != string(w.zero[:len(p)]) {
			var err error
			if n.Runs, err = w.put(n.Runs, uint32(done/blockSize), p); err != nil {
				return err
			}
		}
		done += int64(len(p))
	}
	return nil
}

// maxFile is the largest file of blocks of 4 KiB.
const maxFile = banger.Bytes(1<<32-1) * blockSize
