package server

import (
	"context"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

func (s *Server) listPorts(ctx context.Context, in *refInput) (*body[[]banger.Port], error) {
	detail, err := s.VMs.Show(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	return &body[[]banger.Port]{tidy(detail.VM).Ports}, nil
}

type addPortsInput struct {
	Ref  string `path:"ref"`
	Body api.PortsRequest
}

func (s *Server) addPorts(ctx context.Context, in *addPortsInput) (*body[api.VerbReply], error) {
	if len(in.Body.Ports) == 0 {
		return nil, banger.Errorf(banger.KindInvalid, "no ports to publish were given")
	}
	if err := banger.ValidatePorts(in.Body.Ports); err != nil {
		return nil, err
	}
	return verb(s.VMs.AddPorts(context.WithoutCancel(ctx), in.Ref, in.Body.Ports))
}

type removePortsInput struct {
	Ref   string   `path:"ref"`
	Ports []string `query:"port,explode" required:"true" doc:"A port of the host such as 8080 or 53/udp, or all of what was published: 127.0.0.1:8080:80."`
}

func (s *Server) removePorts(ctx context.Context, in *removePortsInput) (*body[api.VerbReply], error) {
	var ports []banger.Port
	for _, name := range in.Ports {
		named, err := banger.ParsePublished(name)
		if err != nil {
			return nil, err
		}
		ports = append(ports, named...)
	}
	return verb(s.VMs.RemovePorts(context.WithoutCancel(ctx), in.Ref, ports))
}
