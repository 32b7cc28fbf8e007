package server

import (
	"context"

	"banger.dev/banger"
)

// Space is what the home and its cache take on disk. Methods are safe for
// concurrent use.
type Space interface {
	Usage(ctx context.Context) (banger.DiskUsage, error)
	// Prune removes what no VM needs; with all also what the next VM would be made
	// of. With dry it only says what.
	Prune(ctx context.Context, kind string, all, dry bool) (banger.Pruned, error)
}

func (s *Server) usage(ctx context.Context, _ *struct{}) (*body[banger.DiskUsage], error) {
	usage, err := s.Space.Usage(ctx)
	if err != nil {
		return nil, err
	}
	return &body[banger.DiskUsage]{usage}, nil
}

type pruneInput struct {
	Kind string `query:"kind"`
	All  bool   `query:"all"`
	Dry  bool   `query:"dry"`
}

func (s *Server) prune(ctx context.Context, in *pruneInput) (*body[banger.Pruned], error) {
	pruned, err := s.Space.Prune(ctx, in.Kind, in.All, in.Dry)
	if err != nil {
		return nil, err
	}
	return &body[banger.Pruned]{pruned}, nil
}
