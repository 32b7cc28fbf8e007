package wire

import (
	"encoding/json"
	"unicode/utf8"
)

// Text is a string of any bytes, as the arguments and environment of a Unix
// program are. JSON carries only UTF-8, so valid UTF-8 is a JSON string and
// anything else is {"b64": "…"}.
type Text string

type textB64 struct {
	B64 []byte `json:"b64"`
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(textB64{B64: []byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var v textB64
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		*t = Text(v.B64)
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}
