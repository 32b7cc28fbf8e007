// Package version knows what this build is. It is set by the linker.
package version

// Version is the release, or "dev"; Commit the git commit it was built from;
// Time that commit's, in seconds since 1970, so that a build can be repeated.
var (
	Version = "dev"
	Commit  = ""
	Time    = ""
)

// String is release and commit, for people.
func String() string {
	if Commit == "" {
		return Version
	}
	return Version + "-" + Commit
}
