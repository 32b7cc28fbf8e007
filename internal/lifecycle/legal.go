package lifecycle

import "banger.dev/banger"

// verb is something that a user does to one VM.
type verb string

// The verbs that ask what state a VM is in.
const (
	verbStart   verb = "start"
	verbStop    verb = "stop"
	verbKill    verb = "kill"
	verbRestart verb = "restart"
	verbPause   verb = "pause"
	verbResume  verb = "resume"
	verbReset   verb = "reset"
	verbSet     verb = "set"
	verbDelete  verb = "delete"
	verbCommit  verb = "image commit"

	verbSetBase      verb = "set --image or --kernel"
	verbForcedReset  verb = "reset --force"
	verbForcedDelete verb = "delete --force"
)

// verdict is how a verb takes a VM in some state.
type verdict int

// The verdicts.
const (
	refuse  verdict = iota // a conflict, with what to type next
	act                    // it does its work
	already                // it is so, which is no error and changes nothing
)

// verdicts is the one table of what is legal when.
func verdicts(v verb) map[banger.State]verdict {
	const (
		creating, running, paused = banger.StateCreating, banger.StateRunning, banger.StatePaused
		stopped, broken           = banger.StateStopped, banger.StateBroken
	)
	switch v {
	case verbStart:
		return map[banger.State]verdict{creating: refuse, running: already, paused: refuse, stopped: act, broken: refuse}
	case verbStop, verbKill:
		return map[banger.State]verdict{creating: refuse, running: act, paused: act, stopped: already, broken: already}
	case verbRestart:
		return map[banger.State]verdict{creating: refuse, running: act, paused: act, stopped: act, broken: refuse}
	case verbPause:
		return map[banger.State]verdict{creating: refuse, running: act, paused: already, stopped: refuse, broken: refuse}
	case verbResume:
		return map[banger.State]verdict{creating: refuse, running: already, paused: act, stopped: refuse, broken: refuse}
	case verbSet:
		return map[banger.State]verdict{creating: refuse, running: act, paused: act, stopped: act, broken: act}
	case verbReset, verbSetBase:
		return map[banger.State]verdict{creating: refuse, running: refuse, paused: refuse, stopped: act, broken: act}
	case verbCommit:
		return map[banger.State]verdict{creating: refuse, running: refuse, paused: refuse, stopped: act, broken: refuse}
	case verbDelete:
		return map[banger.State]verdict{creating: act, running: refuse, paused: refuse, stopped: act, broken: act}
	case verbForcedReset:
		return map[banger.State]verdict{creating: refuse, running: act, paused: act, stopped: act, broken: act}
	case verbForcedDelete:
		return map[banger.State]verdict{creating: act, running: act, paused: act, stopped: act, broken: act}
	}
	return nil
}

// judge says whether a verb is to be done to a VM as it is now. The error is a
// refusal.
func (m *Manager) judge(v verb, rec banger.Record) (verdict, error) {
	vm := m.observe(rec)
	if got := verdicts(v)[vm.State]; got != refuse {
		return got, nil
	}
	return refuse, m.refusal(v, rec, vm)
}

// refusal says why a verb is not for a VM as it is, and what is.
func (m *Manager) refusal(v verb, rec banger.Record, vm banger.VM) error {
	switch vm.State {
	case banger.StateCreating:
		return errCreating(rec)
	case banger.StateBroken:
		return errBroken(rec, m.brokenBy(rec))
	}
	err := banger.Errorf(banger.KindConflict, "VM %s is %s", rec.Name, vm.State)
	switch {
	case v == verbReset:
		return err.WithNext("banger vm stop %s, or banger vm reset --force %s", rec.Name, rec.Name)
	case v == verbSetBase || v == verbCommit:
		return err.WithNext("banger vm stop %s", rec.Name)
	case v == verbDelete:
		return err.WithNext("banger vm stop %s, or banger vm delete --force %s", rec.Name, rec.Name)
	case vm.State == banger.StatePaused:
		return err.WithNext("banger vm resume %s", rec.Name)
	default:
		return err.WithNext("banger vm start %s", rec.Name)
	}
}

func errBroken(rec banger.Record, b breakage) error {
	return banger.Errorf(banger.KindConflict, "VM %s is broken: %s", rec.Name, b.why).WithNext("%s", b.next)
}
