// Package version knows what this build is. It is set by the linker.
package version

// Version is the release, or "dev"; Commit the git commit it was built from.
var (
	Version = "dev"
	Commit  = ""
)

// String is both, for people and for comparing two builds.
func String() string {
	if Commit == "" {
		return Version
	}
	return Version + "-" + Commit
}
