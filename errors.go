package banger

import (
	"errors"
	"fmt"
)

// Kind classifies an error for those who must act on it. It survives the wire:
// internal/server maps it to an HTTP status, internal/cli to an exit code.
type Kind string

// The kinds of error.
const (
	KindInternal    Kind = "internal"    // a defect or a failure of the host; exit 1
	KindInvalid     Kind = "invalid"     // a value that cannot be; nothing was changed; exit 2
	KindNotFound    Kind = "not_found"   // no such VM, image, kernel or operation; exit 3
	KindConflict    Kind = "conflict"    // the state of things forbids it; exit 4
	KindUnavailable Kind = "unavailable" // something needed is missing or does not answer; exit 1
	KindCancelled   Kind = "cancelled"   // the caller or the user ended it; exit 130
)

// Error is an error for the person who meets it: what failed and on what,
// why (Err), and the next command to type.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
	Request string `json:"request,omitempty"` // id of the request that failed, if one did
	Err     error  `json:"-"`                 // the cause, or nil; already part of Message
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// WithNext sets the command to type next and returns e.
func (e *Error) WithNext(format string, args ...any) *Error {
	e.Next = fmt.Sprintf(format, args...)
	return e
}

// Errorf makes an error of a kind. A %w operand becomes the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), Err: errors.Unwrap(err)}
}

// KindOf is the kind of the first *Error in err's chain, else KindInternal.
// It is the empty kind for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// NextOf is the next command of the first *Error in err's chain that has one, or "".
func NextOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Next != "" {
			return e.Next
		}
		err = e.Err
	}
	return ""
}

// RequestOf is the id of the request of the first *Error in err's chain that has
// one, or "".
func RequestOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Request != "" {
			return e.Request
		}
		err = e.Err
	}
	return ""
}
