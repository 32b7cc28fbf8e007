package banger

import "regexp"

// nameRE is a DNS label, so that a VM's name is also its host name.
var nameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// idRE is 16 hexadecimal digits.
var idRE = regexp.MustCompile(`^[0-9a-f]{16}$`)

// ValidateName says whether a VM can have this name.
func ValidateName(name string) error {
	if nameRE.MatchString(name) {
		return nil
	}
	return Errorf(KindInvalid, "%q cannot be a VM's name: use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or a digit", name)
}

// IsID says whether s has the form of a VM's id.
func IsID(s string) bool { return idRE.MatchString(s) }
