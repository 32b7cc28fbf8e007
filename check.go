package banger

// CheckStatus is what a check came to.
type CheckStatus string

// The statuses of a check.
const (
	CheckOK     CheckStatus = "ok"
	CheckAbsent CheckStatus = "absent" // something is not here, and banger does without
	CheckFailed CheckStatus = "failed" // VMs cannot be made or run
)

// Check is one thing that was looked at on this host. Its JSON form is stable
// and only grows.
type Check struct {
	Name    string      `json:"name"`
	Status  CheckStatus `json:"status"`
	Message string      `json:"message"`        // what was found, for people
	Next    string      `json:"next,omitempty"` // what to type to have it
}

// CheckOf is the check called name that found err, or what is as it should be.
func CheckOf(name string, err error, found string) Check {
	if err != nil {
		return Check{Name: name, Status: CheckFailed, Message: err.Error(), Next: NextOf(err)}
	}
	return Check{Name: name, Status: CheckOK, Message: found}
}
