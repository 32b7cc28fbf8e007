package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// Pick answers wire.PathPick.
func (s *Server) Pick(body io.Reader, answer io.Writer) error {
	in := bufio.NewReaderSize(body, answerBuffer)
	var req wire.PickRequest
	if err := readLine(in, &req); err != nil {
		return err
	}
	names, err := allLines(in)
	if err != nil {
		return err
	}
	return s.at(req.Place, func(name string, _ users.Identity) error {
		dir, err := archive.OpenDir(name)
		if err != nil {
			return failure(err)
		}
		defer func() { _ = dir.Close() }()
		out := bufio.NewWriterSize(answer, answerBuffer)
		p, tree := archive.NewPacker(out), archive.NewTree(dir)
		defer tree.Close()
		for _, name := range names {
			if err := p.AddPath(tree, name, name); err != nil && !archive.IsAbsent(err) {
				return errors.Join(out.Flush(), failure(err))
			}
		}
		return errors.Join(p.Close(), out.Flush())
	})
}

// Remove answers wire.PathRemove.
func (s *Server) Remove(body io.Reader, answer io.Writer) error {
	in := bufio.NewReaderSize(body, answerBuffer)
	var req wire.RemoveRequest
	if err := readLine(in, &req); err != nil {
		return err
	}
	names, err := allLines(in)
	if err != nil {
		return err
	}
	return s.at(req.Place, func(name string, _ users.Identity) error {
		dir, err := archive.OpenDir(name)
		if err != nil {
			return failure(err)
		}
		defer func() { _ = dir.Close() }()
		tree := archive.NewTree(dir)
		defer tree.Close()
		for _, name := range names {
			if err := tree.Remove(name); err != nil {
				return failure(fmt.Errorf("%s: %w", name, err))
			}
		}
		_, err = io.WriteString(answer, "{}\n")
		return err
	})
}

func allLines(in io.Reader) ([]string, error) {
	var names []string
	err := eachLine(in, func(name wire.Text) error {
		names = append(names, string(name))
		return nil
	})
	return names, err
}
