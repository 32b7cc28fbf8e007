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
	var req wire.PickRequest
	return s.below(body, &req, &req.Place, func(tree archive.Tree, names []string) error {
		out := bufio.NewWriterSize(answer, answerBuffer)
		p := archive.NewPacker(out)
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
	var req wire.RemoveRequest
	return s.below(body, &req, &req.Place, func(tree archive.Tree, names []string) error {
		for _, name := range names {
			if err := tree.Remove(name); err != nil {
				return failure(fmt.Errorf("%s: %w", name, err))
			}
		}
		_, err := io.WriteString(answer, "{}\n")
		return err
	})
}

// below reads a request and the names of files that follow it, and calls do with
// them and the tree at the request's place.
func (s *Server) below(body io.Reader, req any, at *wire.Place, do func(archive.Tree, []string) error) error {
	in := bufio.NewReaderSize(body, answerBuffer)
	if err := readLine(in, req); err != nil {
		return err
	}
	names, err := allLines(in)
	if err != nil {
		return err
	}
	return s.at(*at, func(name string, _ users.Identity) error {
		dir, err := archive.OpenDir(name)
		if err != nil {
			return failure(err)
		}
		defer func() { _ = dir.Close() }()
		tree := archive.NewTree(dir)
		defer tree.Close()
		return do(tree, names)
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
