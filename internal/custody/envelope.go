package custody

import (
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// A sealed value is, in this order and with nothing behind it:
//
//	4 bytes   "kwsv"
//	1 byte    version of the layout, 1
//	2 bytes   length of the master's ID, big endian, 1 to 512
//	          the master's ID
//	2 bytes   length of the wrapped data key, big endian, at least 1
//	          the wrapped data key
//	24 bytes  nonce
//	          the value under XChaCha20-Poly1305; 16 bytes longer than the value
//
// The associated data of the last part is the binding and everything in front of the nonce.
const (
	magic       = "kwsv"
	layout      = 1
	maxMasterID = 512
	maxWrapped  = 1<<16 - 1
)

type envelope struct {
	header  []byte // everything in front of the nonce
	master  string
	wrapped []byte
	nonce   []byte
	box     []byte
}

func encodeHeader(master string, wrapped []byte) ([]byte, error) {
	if len(master) == 0 || len(master) > maxMasterID || len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, fault.Newf(fault.Unknown, "seal value: the master gave an ID of %d and a wrapped key of %d bytes", len(master), len(wrapped))
	}
	out := make([]byte, 0, len(magic)+5+len(master)+len(wrapped))
	out = append(append(out, magic...), layout)
	out = binary.BigEndian.AppendUint16(out, uint16(len(master))) //nolint:gosec // G115: checked above.
	out = append(out, master...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(wrapped))) //nolint:gosec // G115: checked above.
	return append(out, wrapped...), nil
}

// parse takes s apart without copying. Errors are Corrupt, or Unsupported for a layout of a later Keywright.
func parse(s secret.Sealed) (envelope, error) {
	corrupt := func(what string) (envelope, error) {
		return envelope{}, fault.New(fault.Corrupt, "read sealed value: "+what, fault.Hint("restore the row from a backup of the store, or hand the value in again"))
	}
	var e envelope
	rest := []byte(s)
	take := func(n int) []byte {
		if n < 0 || n > len(rest) {
			return nil
		}
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	sized := func() []byte {
		length := take(2)
		if length == nil {
			return nil
		}
		return take(int(binary.BigEndian.Uint16(length)))
	}
	if string(take(len(magic))) != magic {
		return corrupt("it is none")
	}
	switch v := take(1); {
	case v == nil:
		return corrupt("it was cut short")
	case v[0] > layout:
		return envelope{}, fault.New(fault.Unsupported, "read sealed value: its layout is newer than this version of Keywright", fault.Hint("use the version that wrote it, or a later one"))
	case v[0] != layout:
		return corrupt("its layout is unknown")
	}
	id := sized()
	e.wrapped = sized()
	if len(id) == 0 || len(id) > maxMasterID || len(e.wrapped) == 0 {
		return corrupt("its header is damaged")
	}
	e.master = string(id)
	e.header = s[: len(s)-len(rest) : len(s)-len(rest)]
	e.nonce = take(chacha20poly1305.NonceSizeX)
	e.box = rest
	if e.nonce == nil || len(e.box) <= chacha20poly1305.Overhead {
		return corrupt("it was cut short")
	}
	return e, nil
}

// SealedBy gives the ID of the master that s says it was sealed under. Nothing is opened; the ID is checked by Open alone.
func SealedBy(s secret.Sealed) (string, error) {
	e, err := parse(s)
	return e.master, err
}
