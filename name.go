package banger

import "strings"

// Names have at most maxName characters, as labels of DNS.
const maxName = 63

// ValidateName says whether a VM can have this name: a DNS label, so that it is
// also the VM's host name. No regular expression is compiled for it, here and in
// IsID, since every start of every program would pay for that.
func ValidateName(name string) error {
	if n := len(name); n >= 1 && n <= maxName && only(name, letters+digits+"-") && name[0] != '-' && name[n-1] != '-' {
		return nil
	}
	return Errorf(KindInvalid, "%q cannot be a VM's name: use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or a digit", name)
}

// IsID says whether s has the form of a VM's id: 16 hexadecimal digits.
func IsID(s string) bool { return len(s) == 16 && only(s, digits+"abcdef") }

const (
	letters = "abcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
)

// only says whether s has no other characters than these.
func only(s, characters string) bool { return strings.TrimLeft(s, characters) == "" }

// begins says whether s begins with one of these characters.
func begins(s, characters string) bool { return s != "" && only(s[:1], characters) }
