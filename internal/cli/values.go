package cli

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"banger.dev/banger"
)

// The types below are flag values (pflag.Value) that refuse what cannot be
// while the line is parsed, before anything is asked of anybody.

type outputValue struct{ json *bool }

func (v *outputValue) String() string {
	if v.json != nil && *v.json {
		return "json"
	}
	return "text"
}
func (v *outputValue) Type() string { return "FORM" }
func (v *outputValue) Set(s string) error {
	if s != "text" && s != "json" {
		return banger.Errorf(banger.KindInvalid, "%q must be text or json", s)
	}
	*v.json = s == "json"
	return nil
}

// sizeValue is an amount of bytes; none, where allowed, is 0.
type sizeValue struct {
	bytes     *banger.Bytes
	allowNone bool
}

func (v *sizeValue) String() string {
	if v.bytes == nil {
		return ""
	}
	return v.bytes.String()
}
func (v *sizeValue) Type() string { return "SIZE" }
func (v *sizeValue) Set(s string) error {
	if v.allowNone && s == "none" {
		*v.bytes = 0
		return nil
	}
	bytes, err := banger.ParseBytes(s)
	if err != nil {
		return err
	}
	if v.allowNone && bytes == 0 {
		return banger.Errorf(banger.KindInvalid, "%q would be no disk: write none if that is meant", s)
	}
	*v.bytes = bytes
	return nil
}

type countValue struct{ n *int }

func (v *countValue) String() string {
	if v.n == nil {
		return ""
	}
	return strconv.Itoa(*v.n)
}
func (v *countValue) Type() string { return "N" }
func (v *countValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return banger.Errorf(banger.KindInvalid, "%q is not a whole number", s)
	}
	*v.n = n
	return nil
}

// durationValue is a time greater than nothing.
type durationValue struct{ d *time.Duration }

func (v *durationValue) String() string {
	if v.d == nil || *v.d == 0 {
		return ""
	}
	return v.d.String()
}
func (v *durationValue) Type() string { return "TIME" }
func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return banger.Errorf(banger.KindInvalid, "%q is not a time: write a number and a unit, such as 30s or 2m", s)
	}
	if d < time.Millisecond {
		return banger.Errorf(banger.KindInvalid, "%s is no time to wait", s)
	}
	*v.d = d
	return nil
}

// sinceValue is a moment: RFC 3339, or how long ago it was.
type sinceValue struct{ at *time.Time }

func (v *sinceValue) String() string {
	if v.at == nil || v.at.IsZero() {
		return ""
	}
	return v.at.Format(time.RFC3339)
}
func (v *sinceValue) Type() string { return "TIME" }
func (v *sinceValue) Set(s string) error {
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		*v.at = at
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return banger.Errorf(banger.KindInvalid, "%q is neither how long ago, such as 5m, nor a time such as %s", s, time.RFC3339)
	}
	*v.at = time.Now().Add(-d)
	return nil
}

// choiceValue is one of a few words.
type choiceValue[T ~string] struct {
	word    *T
	choices []T
}

func choice[T ~string](word *T, choices ...T) *choiceValue[T] {
	return &choiceValue[T]{word: word, choices: choices}
}

func (v *choiceValue[T]) String() string {
	if v.word == nil {
		return ""
	}
	return string(*v.word)
}
func (v *choiceValue[T]) Type() string { return strings.Join(v.words(), "|") }
func (v *choiceValue[T]) Set(s string) error {
	if !slices.Contains(v.choices, T(s)) {
		words := v.words()
		last := len(words) - 1
		return banger.Errorf(banger.KindInvalid, "%q must be %s or %s", s, strings.Join(words[:last], ", "), words[last])
	}
	*v.word = T(s)
	return nil
}

func (v *choiceValue[T]) words() []string {
	words := make([]string, len(v.choices))
	for i, c := range v.choices {
		words[i] = string(c)
	}
	return words
}

// nameValue is the name of a VM to be made.
type nameValue struct{ name *string }

func (v *nameValue) String() string {
	if v.name == nil {
		return ""
	}
	return *v.name
}
func (v *nameValue) Type() string { return "NAME" }
func (v *nameValue) Set(s string) error {
	*v.name = s
	return banger.ValidateName(s)
}

// userValue is name, uid, name:group or uid:gid in the guest.
type userValue struct{ user *string }

func (v *userValue) String() string {
	if v.user == nil {
		return ""
	}
	return *v.user
}
func (v *userValue) Type() string { return "USER" }
func (v *userValue) Set(s string) error {
	name, group, grouped := strings.Cut(s, ":")
	if name == "" || (grouped && group == "") || strings.Contains(group, ":") || s != escape(s) || strings.ContainsAny(s, " /") {
		return banger.Errorf(banger.KindInvalid, "%q must be a name or a number, or with a group as name:group", s)
	}
	*v.user = s
	return nil
}

// workdirValue is an absolute path in the guest.
type workdirValue struct{ path *string }

func (v *workdirValue) String() string {
	if v.path == nil {
		return ""
	}
	return *v.path
}
func (v *workdirValue) Type() string { return "DIR" }
func (v *workdirValue) Set(s string) error {
	if !strings.HasPrefix(s, "/") || strings.ContainsRune(s, 0) {
		return banger.Errorf(banger.KindInvalid, "%q must be an absolute path in the guest", s)
	}
	*v.path = s
	return nil
}

// refValue names an image or a kernel; what it means is the daemon's to say.
type refValue struct{ ref *string }

func (v *refValue) String() string {
	if v.ref == nil {
		return ""
	}
	return *v.ref
}
func (v *refValue) Type() string { return "REF" }
func (v *refValue) Set(s string) error {
	if s == "" || len(s) > 4096 || s != escape(s) {
		return banger.Errorf(banger.KindInvalid, "%q cannot name one", s)
	}
	*v.ref = s
	return nil
}

// labelsValue collects KEY=VALUE; KEY alone has an empty value.
type labelsValue struct{ labels *map[string]string }

func (v *labelsValue) String() string { return "" }
func (v *labelsValue) Type() string   { return "KEY=VALUE" }
func (v *labelsValue) Set(s string) error {
	key, value, _ := strings.Cut(s, "=")
	if key == "" {
		return banger.Errorf(banger.KindInvalid, "%q must be KEY=VALUE", s)
	}
	if *v.labels == nil {
		*v.labels = map[string]string{}
	}
	(*v.labels)[key] = value
	return nil
}

// labelChangesValue collects KEY=VALUE, and KEY- for a label that is to go.
type labelChangesValue struct{ labels *map[string]*string }

func (v *labelChangesValue) String() string { return "" }
func (v *labelChangesValue) Type() string   { return "KEY=VALUE|KEY-" }
func (v *labelChangesValue) Set(s string) error {
	key, value, given := strings.Cut(s, "=")
	change := &value
	if cut, ok := strings.CutSuffix(key, "-"); ok && !given {
		key, change = cut, nil
	}
	if key == "" {
		return banger.Errorf(banger.KindInvalid, "%q must be KEY=VALUE, or KEY- to take it off", s)
	}
	if *v.labels == nil {
		*v.labels = map[string]*string{}
	}
	(*v.labels)[key] = change
	return nil
}

// labelSelector collects KEY=VALUE, and KEY alone for any value: a VM is to match
// all of them.
type labelSelector []string

func (s *labelSelector) String() string { return "" }
func (s *labelSelector) Type() string   { return "KEY[=VALUE]" }
func (s *labelSelector) Set(text string) error {
	if key, _, _ := strings.Cut(text, "="); key == "" {
		return banger.Errorf(banger.KindInvalid, "%q must be KEY or KEY=VALUE", text)
	}
	*s = append(*s, text)
	return nil
}

func (s labelSelector) matches(vm banger.VM) bool {
	for _, text := range s {
		key, value, exact := strings.Cut(text, "=")
		have, ok := vm.Labels[key]
		if !ok || (exact && have != value) {
			return false
		}
	}
	return true
}

// linesValue is a number of lines; -1 is all of them.
type linesValue struct{ n *int }

func (v *linesValue) String() string {
	if v.n == nil || *v.n < 0 {
		return ""
	}
	return strconv.Itoa(*v.n)
}
func (v *linesValue) Type() string { return "N" }
func (v *linesValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if s == "all" {
		n, err = -1, nil
	} else if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	if err != nil {
		return banger.Errorf(banger.KindInvalid, "%q must be a number of lines, or all", s)
	}
	*v.n = n
	return nil
}
