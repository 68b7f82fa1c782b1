package intake

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// MaxInput is how many bytes Read takes at most. No key comes near it.
const MaxInput = 8 << 10

// Read takes exactly one value from r, up to its end. A single line end after the value, as pipes and files have, is dropped; whatever
// else is not part of a key is reported with its offset. Errors are Invalid, or Unavailable when r fails, and quote nothing that
// was read. The caller destroys the value.
func Read(r io.Reader) (secret.Value, error) {
	const what = "read key"
	buf := make([]byte, MaxInput+1)
	defer clear(buf)
	n, err := io.ReadFull(r, buf)
	switch {
	case err == nil:
		return secret.Value{}, fault.New(fault.Invalid, fmt.Sprintf("%s: more than %d bytes: no key is that long", what, MaxInput), fault.Hint("copy the key alone"))
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return secret.Value{}, fault.New(fault.Unavailable, what+": the input broke off", fault.Hint("hand the key in again"))
	}
	b, ended := bytes.CutSuffix(buf[:n], []byte("\n"))
	if ended {
		b = bytes.TrimSuffix(b, []byte("\r"))
	}
	v := secret.New(b)
	if _, err := secret.CheckAPIKey(v); err != nil {
		v.Destroy()
		return secret.Value{}, err
	}
	return v, nil
}
