package servertest

import (
	"context"

	"banger.dev/banger"
)

// Doctor is a home with these strays in it.
type Doctor []banger.Stray

// Checks is server.Doctor's.
func (Doctor) Checks(context.Context) ([]banger.Check, bool) {
	return []banger.Check{{Name: "image", Status: banger.CheckAbsent, Message: "it is made at first use", Next: "banger run"}}, false
}

// Strays is server.Doctor's: fix removes them.
func (d Doctor) Strays(_ context.Context, fix bool) ([]banger.Stray, error) {
	strays := append([]banger.Stray{}, d...)
	for i := range strays {
		strays[i].Fixed = fix
	}
	return strays, nil
}
