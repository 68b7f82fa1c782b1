package keysource

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/keywright/keywright/internal/fault"
)

// member gives the text of one member of a JSON object, in a buffer of its own. A member that stands there twice is refused: two readers could
// differ on which one counts.
func member(text []byte, field string) ([]byte, error) {
	bad := func(kind fault.Kind, what string) ([]byte, error) {
		return nil, fault.New(kind, what, fault.Hint("name the member behind # of the reference, or leave # out when the whole text is the value"))
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return bad(fault.Invalid, "it is no JSON object")
	}
	var found json.RawMessage
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return bad(fault.Invalid, "it is no JSON object")
		}
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			return bad(fault.Invalid, "it is no JSON object")
		}
		if name == field {
			if found != nil {
				return bad(fault.Invalid, fmt.Sprintf("it has the member %q twice", field))
			}
			found = raw
			continue
		}
		clear(raw)
	}
	defer clear(found)
	if t, err := dec.Token(); err != nil || t != json.Delim('}') || dec.More() {
		return bad(fault.Invalid, "it is no JSON object")
	}
	if found == nil {
		return bad(fault.NotFound, fmt.Sprintf("it has no member %q", field))
	}
	var s string
	if json.Unmarshal(found, &s) != nil {
		return bad(fault.Invalid, fmt.Sprintf("its member %q is no text", field))
	}
	return []byte(s), nil
}
