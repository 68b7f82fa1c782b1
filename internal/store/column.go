package store

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
)

// nanos gives the column form of a time: nanoseconds since 1970, 0 for the zero time. Times that do not fit (before 1970, or
// after 2262) become the nearest that does.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return max(t.UnixNano(), 1)
}

// timeColumn reads what nanos wrote.
type timeColumn struct{ t *time.Time }

// Scan implements sql.Scanner.
func (c timeColumn) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("read time: the column holds %T", src)
	}
	*c.t = time.Time{}
	if n != 0 {
		*c.t = time.Unix(0, n).UTC()
	}
	return nil
}

// jsonColumn reads JSON text into v; NULL leaves v as it is.
type jsonColumn struct{ v any }

// Scan implements sql.Scanner. The error is of kind Corrupt.
func (c jsonColumn) Scan(src any) error {
	b, err := textOf(src)
	if err != nil || b == nil {
		return err
	}
	return fault.Wrap(fault.Corrupt, json.Unmarshal(b, c.v), "decode stored JSON")
}

// rawColumn reads JSON text as it is; NULL gives nil.
type rawColumn struct{ v *json.RawMessage }

// Scan implements sql.Scanner.
func (c rawColumn) Scan(src any) error {
	b, err := textOf(src)
	*c.v = b
	return err
}

// digestColumn reads a nullable digest in hex.
type digestColumn struct{ d *apikey.Digest }

// Scan implements sql.Scanner. The error is of kind Corrupt.
func (c digestColumn) Scan(src any) error {
	b, err := textOf(src)
	if err != nil {
		return err
	}
	return fault.Wrap(fault.Corrupt, c.d.UnmarshalText(b), "decode stored digest")
}

// textOf gives a copy of a text column, nil for NULL.
func textOf(src any) ([]byte, error) {
	switch x := src.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(x), nil
	case []byte:
		return append([]byte{}, x...), nil
	}
	return nil, fmt.Errorf("read text: the column holds %T", src)
}

// jsonText gives the column form of v.
func jsonText(what string, v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), fault.Wrap(fault.Invalid, err, what)
}

// rawText gives the column form of JSON that the caller has; none becomes NULL. The error is of kind Invalid.
func rawText(what string, b json.RawMessage) (sql.NullString, error) {
	if len(b) == 0 {
		return sql.NullString{}, nil
	}
	if !json.Valid(b) {
		return sql.NullString{}, fault.New(fault.Invalid, what+": the data is no JSON")
	}
	return sql.NullString{String: string(b), Valid: true}, nil
}

func digestText(d apikey.Digest) sql.NullString {
	if !d.Known() {
		return sql.NullString{}
	}
	return sql.NullString{String: hex.EncodeToString(d[:]), Valid: true}
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails.
	return hex.EncodeToString(b[:])
}

var (
	_ sql.Scanner = timeColumn{}
	_ sql.Scanner = jsonColumn{}
	_ sql.Scanner = rawColumn{}
	_ sql.Scanner = digestColumn{}
)
