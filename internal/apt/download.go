package apt

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger.dev/banger"
)

// Download is the path of p's .deb, whose sha256 is what the signed lists say:
// one already there, else one fetched now. The file stays; nobody may write to it.
func (r *Root) Download(ctx context.Context, p Package, report banger.ProgressFunc) (string, error) {
	if !nameRE.MatchString(p.Name) || len(p.SHA256) != 64 {
		return "", banger.Errorf(banger.KindInvalid, "%q is not a package of the lists", p.Name)
	}
	lock, err := r.lock(ctx, report)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	file := filepath.Join(r.archives(), p.file())
	if verify(file, p) == nil {
		return file, nil
	}
	if err := r.fetch(ctx, lock, p, file, report); err != nil {
		return "", err
	}
	r.log.Info("package downloaded", "package", p.Name, "version", p.Version)
	return file, nil
}

// fetch downloads p to file by way of a directory of its own.
func (r *Root) fetch(ctx context.Context, lock *os.File, p Package, file string, report banger.ProgressFunc) error {
	tmp, err := os.MkdirTemp(r.dir, "download-")
	if err != nil {
		return fmt.Errorf("download %s: %w", p.Name, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	progress, done, err := watchProgress(p, report)
	if err != nil {
		return fmt.Errorf("download %s: %w", p.Name, err)
	}
	_, err = r.run(ctx, lock, command{
		argv:  []string{"apt-get", "-q", "-o", "APT::Status-Fd=4", "download", p.Name + "=" + p.Version},
		dir:   tmp,
		files: []*os.File{progress},
	})
	_ = progress.Close()
	<-done
	if err != nil {
		return r.mirrorError(err)
	}
	got, err := onlyDeb(tmp)
	if err != nil {
		return err
	}
	if err := verify(got, p); err != nil {
		return banger.Errorf(banger.KindUnavailable, "download %s: %w", p.Name, err).WithNext("try again")
	}
	if err := syncFile(got); err != nil {
		return fmt.Errorf("download %s: %w", p.Name, err)
	}
	return os.Rename(got, file)
}

func onlyDeb(dir string) (string, error) {
	debs, err := fs.Glob(os.DirFS(dir), "*.deb")
	if err != nil {
		return "", err
	}
	if len(debs) != 1 {
		return "", fmt.Errorf("apt-get download left %d packages instead of one", len(debs))
	}
	return filepath.Join(dir, debs[0]), nil
}

// watchProgress gives a pipe for apt's status lines and reports them as bytes
// of p. done is closed once the pipe's last writer is gone.
func watchProgress(p Package, report banger.ProgressFunc) (w *os.File, done <-chan struct{}, err error) {
	reader, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	message := fmt.Sprintf("download %s (%d MB)", p.Name, (p.Size+500_000)/1_000_000)
	last := int64(-1)
	send := func(percent float64) {
		done := int64(percent / 100 * float64(p.Size))
		if done == last {
			return
		}
		last = done
		report.Report(banger.Progress{Stage: stage, Message: message, Done: done, Total: int64(p.Size), Bytes: true})
	}
	send(0)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		defer func() { _ = reader.Close() }()
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			if percent, ok := parseStatus(lines.Text()); ok {
				send(percent)
			}
		}
	}()
	return w, finished, nil
}

// parseStatus reads a line such as "dlstatus:1:42.5:Retrieving file 1 of 1".
func parseStatus(line string) (percent float64, ok bool) {
	fields := strings.SplitN(line, ":", 4)
	if len(fields) < 3 || fields[0] != "dlstatus" {
		return 0, false
	}
	percent, err := strconv.ParseFloat(fields[2], 64)
	return percent, err == nil && percent >= 0 && percent <= 100
}

// verify says whether file is p, byte for byte.
func verify(file string, p Package) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if n != int64(p.Size) || hex.EncodeToString(sum.Sum(nil)) != p.SHA256 {
		return errors.New("what arrived is not what the signed lists describe (size or sha256 differ)")
	}
	return nil
}

func syncFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}
