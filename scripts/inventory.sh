# shellcheck shell=sh
# Sourced by install and uninstall: where things are installed, and where it is
# noted what was. An inventory that names what is not below the prefix is not
# one of ours.

case ${PREFIX:-} in
/*) ;;
*)
	echo "PREFIX=${PREFIX:-} is not an absolute path" >&2
	exit 1
	;;
esac
# shellcheck disable=SC2034 # both are for who sources this
prefix=${DESTDIR:-}$PREFIX inventory=share/doc/banger/inventory
if [ -f "$prefix/$inventory" ] && grep -qE '^/|(^|/)\.\.(/|$)' "$prefix/$inventory"; then
	echo "$prefix/$inventory names files outside of $prefix, so it is not followed" >&2
	echo "next: look at it, and remove it" >&2
	exit 1
fi
