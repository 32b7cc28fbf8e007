package kernel

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"sync"

	"banger.dev/banger"
)

// embedded holds the agent once "make build" has put it there; a fresh clone
// has only a placeholder, and builds.
//
//go:embed all:embedded
var embedded embed.FS

// Agent is the static program that becomes /init of every initramfs.
type Agent struct {
	data []byte
	ssh  []byte        // the ssh server, or none
	sum  func() string // of both, computed once
}

// EmbeddedAgent is the agent this program was built with; an empty one if it was
// built without.
func EmbeddedAgent() Agent {
	data, _ := embedded.ReadFile("embedded/banger-agent")
	ssh, _ := embedded.ReadFile("embedded/banger-ssh")
	return NewAgent(data).WithSSH(ssh)
}

// NewAgent makes an agent of a program's bytes, which must not change.
func NewAgent(data []byte) Agent {
	return Agent{data: data, sum: sync.OnceValue(func() string {
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:])
	})}
}

// WithSSH is a with an ssh server, whose bytes must not change either. It lies
// on the modules disk, so that a boot does not have to carry it.
func (a Agent) WithSSH(server []byte) Agent {
	if len(server) == 0 {
		return a
	}
	return Agent{data: a.data, ssh: server, sum: sync.OnceValue(func() string {
		h := sha256.New()
		h.Write(a.data)
		h.Write(server)
		return hex.EncodeToString(h.Sum(nil))
	})}
}

func (a Agent) check() error {
	if len(a.data) > 0 {
		return nil
	}
	return banger.Errorf(banger.KindUnavailable, "this bangerd was built without its agent").WithNext("run make build")
}
