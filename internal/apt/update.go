package apt

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"banger.dev/banger"
)

// stage is what this package's progress is reported under.
const stage = "apt"

// Update fetches and verifies the package lists. A mirror that does not answer
// or is not signed as it must be is KindUnavailable.
func (r *Root) Update(ctx context.Context, report banger.ProgressFunc) error {
	lock, err := r.lock(ctx, report)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	report.Report(banger.Progress{Stage: stage, Message: "update the package lists"})
	if _, err := r.run(ctx, lock, command{argv: []string{"apt-get", "-q", "update"}}); err != nil {
		return r.mirrorError(err)
	}
	r.log.Debug("package lists updated", "suite", r.suite, "mirror", r.sources.Mirror)
	return nil
}

// mirrorError makes one line for a person of what apt-get said.
func (r *Root) mirrorError(err error) error {
	var failed *commandError
	if !errors.As(err, &failed) {
		return err
	}
	why := strings.TrimRight(firstComplaint(failed.stderr), ".")
	switch {
	case containsAny(failed.stderr, "NO_PUBKEY", "is not signed", "invalid signature", "BADSIG", "EXPKEYSIG", "Sub-process /usr/bin/sqv"):
		if warned := firstWarning(failed.stderr); warned != "" {
			why = warned // apt-get's error says only that it is so
		}
		return banger.Errorf(banger.KindUnavailable, "%s is not signed by the keys in %s: %s", r.sources.Mirror, r.sources.Keyring, why).
			WithNext("sudo apt-get install --only-upgrade %s", cmp.Or(r.sources.KeyringPackage, "debian-archive-keyring"))
	case containsAny(failed.stderr, "Could not resolve", "Temporary failure resolving", "Could not connect", "Cannot initiate the connection", "Unable to connect", "Connection failed", "Connection timed out", "connection timed out"):
		return banger.Errorf(banger.KindUnavailable, "the mirror %s cannot be reached: %s", r.sources.Mirror, why).
			WithNext("check the network, or set http_proxy")
	case containsAny(failed.stderr, "No space left"):
		return banger.Errorf(banger.KindUnavailable, "the disk with %s is full: %s", r.dir, why).WithNext("df -h %s", r.dir)
	}
	return banger.Errorf(banger.KindUnavailable, "apt-get could not use the mirror %s: %s", r.sources.Mirror, why).
		WithNext("check the network, or set http_proxy")
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}
