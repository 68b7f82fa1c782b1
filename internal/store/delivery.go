package store

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
)

// Delivery is a notice that a channel took. Mark is the same for the same notice on the same channel.
type Delivery struct {
	Mark     string      `json:"mark"`
	At       time.Time   `json:"at"`
	Channel  string      `json:"channel"`
	Key      apikey.Name `json:"key,omitempty"`
	Rotation string      `json:"rotation,omitempty"`
	Kind     string      `json:"kind"`
	What     string      `json:"what"`
}

// PutDelivery keeps a delivery; a zero At becomes now. Kind: Invalid.
func (t *Tx) PutDelivery(d Delivery) error {
	const what = "keep delivery"
	if d.Mark == "" || d.Channel == "" {
		return fault.New(fault.Invalid, what+": it lacks a mark or a channel")
	}
	if d.At.IsZero() {
		d.At = t.s.now()
	}
	_, err := t.exec(what, `INSERT INTO deliveries (mark, made_at, channel, key_name, rotation_id, kind, what)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, d.Mark, nanos(d.At), d.Channel, string(d.Key), d.Rotation, d.Kind, d.What)
	return err
}

// Delivered gives when a notice with this mark was last delivered, or zero.
func (t *Tx) Delivered(mark string) (time.Time, error) {
	scan := func(row scanner) (at time.Time, err error) {
		err = row.Scan(timeColumn{&at})
		return at, err
	}
	at, _, err := one(t, "read deliveries", scan, `SELECT made_at FROM deliveries WHERE mark = $1 ORDER BY made_at DESC LIMIT 1`, mark)
	return at, err
}

// Deliveries gives what people were told about a rotation, oldest first.
func (t *Tx) Deliveries(rotation string) ([]Delivery, error) {
	scan := func(row scanner) (d Delivery, err error) {
		err = row.Scan(&d.Mark, timeColumn{&d.At}, &d.Channel, &d.Key, &d.Rotation, &d.Kind, &d.What)
		return d, err
	}
	return all(t, "read deliveries", scan, `SELECT mark, made_at, channel, key_name, rotation_id, kind, what FROM deliveries
		WHERE rotation_id = $1 ORDER BY made_at, channel`, rotation)
}
