# shellcheck shell=sh
# Sourced: finds Go and stops when it is older than go.mod asks for. An older Go
# that may fetch toolchains (GOTOOLCHAIN=auto) counts as what it fetches.

command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
go_wanted=$(sed -n 's/^go //p' go.mod)
if ! command -v go >/dev/null; then
	echo "Go is not installed (no go in PATH, nor in /usr/local/go/bin): banger needs $go_wanted or newer" >&2
	echo "next: https://go.dev/doc/install" >&2
	exit 1
fi
go_found=$(go env GOVERSION) || go_found=
go_found=${go_found#go}
go_found=${go_found%% *}
if [ "$(printf '%s\n' "$go_wanted" "$go_found" | sort -V | head -n 1)" != "$go_wanted" ]; then
	echo "$(command -v go) is Go ${go_found:-of an unknown version}: banger needs $go_wanted or newer" >&2
	echo "next: https://go.dev/doc/install" >&2
	exit 1
fi
