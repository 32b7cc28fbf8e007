package server

import (
	"context"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// Doctor looks at the home that the daemon serves. Methods are safe for
// concurrent use.
type Doctor interface {
	// Checks says of image and kernel whether they are here or can be made.
	Checks(ctx context.Context) (checks []banger.Check, cached bool)
	// Strays are what belongs to no VM; with fix, after what can be removed was.
	Strays(ctx context.Context, fix bool) ([]banger.Stray, error)
}

func (s *Server) examine(ctx context.Context, _ *struct{}) (*body[api.DoctorReply], error) {
	return s.doctor(ctx, false)
}

func (s *Server) fix(ctx context.Context, _ *struct{}) (*body[api.DoctorReply], error) {
	return s.doctor(ctx, true)
}

func (s *Server) doctor(ctx context.Context, fix bool) (*body[api.DoctorReply], error) {
	strays, err := s.Doctor.Strays(ctx, fix)
	if err != nil {
		return nil, err
	}
	checks, cached := s.Doctor.Checks(ctx)
	return &body[api.DoctorReply]{api.DoctorReply{Checks: checks, Cached: cached, Strays: strays}}, nil
}
