package monitor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Spawner starts monitors: `bangerd monitor` in a session of its own.
type Spawner struct {
	Binary string // path of bangerd
}

// spawnTimeout bounds how long a monitor may take to start its VMM.
const spawnTimeout = time.Minute

// Spawn starts a monitor with its order and returns when its VMM runs. ctx
// bounds the call only. After an error nothing of it is left running.
func (s Spawner) Spawn(ctx context.Context, order Order) (Status, error) {
	var none Status
	stdin, err := json.Marshal(order)
	if err != nil {
		return none, err
	}
	complaints, err := os.OpenFile(order.Files.MonitorLog(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return none, err
	}
	defer func() { _ = complaints.Close() }()
	read, write, err := os.Pipe()
	if err != nil {
		return none, err
	}
	defer func() { _ = read.Close() }()

	cmd := exec.Command(s.Binary, "monitor", order.ID)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), write, complaints
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return none, fmt.Errorf("start the monitor: %w", err)
	}
	gone := make(chan struct{})
	go func() { // reap it whenever it ends while this daemon lives
		_ = cmd.Wait()
		close(gone)
	}()
	status, err := await(ctx, read)
	if err != nil {
		_ = cmd.Process.Kill() // its VMM goes with it
		<-gone
		return none, errors.Join(err, lastWords(order.Files.MonitorLog(), err))
	}
	return status, nil
}

// await reads the monitor's one line.
func await(ctx context.Context, read *os.File) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = read.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(read, maxOrder)).ReadBytes('\n')
	if ctx.Err() != nil {
		return Status{}, fmt.Errorf("the monitor did not say that the VMM runs: %w", context.Cause(ctx))
	}
	var s started
	if jerr := json.Unmarshal(line, &s); jerr != nil {
		return Status{}, fmt.Errorf("the monitor ended without a word: %w", errors.Join(err, jerr))
	}
	if s.Refused != nil {
		return Status{}, s.Refused
	}
	if s.Status == nil {
		return Status{}, errors.New(s.Error)
	}
	return *s.Status, nil
}

// lastWords is what a monitor that said nothing on stdout left in its log.
func lastWords(path string, err error) error {
	if !strings.Contains(err.Error(), "without a word") {
		return nil
	}
	b, _ := os.ReadFile(path)
	if len(b) > maxErrorText {
		b = b[len(b)-maxErrorText:]
	}
	return fmt.Errorf("its log: %s", strings.TrimSpace(string(b)))
}
