package location

import (
	"context"
	"time"
)

// Kind describes one sort of place: all that config, the docs and the screens need to know. A connector exports it as the
// function Kind() and is listed in location/all, which is generated.
type Kind struct {
	// Name is what stands in `kind:`, such as "env-file".
	Name string
	// Config gives a fresh pointer to the connector's configuration struct. Its fields carry the tags yaml (name), help (one
	// sentence), default (as written in YAML), required ("true") and enum (words joined by "|"); nothing else describes them.
	Config func() any
	// Open makes the driver. cfg is what Config gave, filled and defaulted. It makes no connection. Errors are Invalid.
	Open func(cfg any, env Env) (Driver, error)
	// Meta is the prose of meta.toml.
	Meta []byte
}

// NewKind describes a connector whose configuration struct is C and whose drivers open makes.
func NewKind[C any, D Driver](name string, meta []byte, open func(C, Env) (D, error)) Kind {
	return Kind{
		Name:   name,
		Config: func() any { return new(C) },
		Open: func(cfg any, env Env) (Driver, error) {
			d, err := open(*cfg.(*C), env)
			if err != nil {
				return nil, err // not d, which would be a driver that is nil inside
			}
			return d, nil
		},
		Meta: meta,
	}
}

// Env is what a driver may need to know of its surroundings.
type Env struct {
	// Dir is the directory of the configuration file; relative paths start there.
	Dir string
	// StateDir is a private directory (0700) that Keywright owns; drivers may keep value-free notes in a folder of their kind.
	StateDir string
	// Name is the location's configured name.
	Name string
	// Now is the clock.
	Now func() time.Time
	// Sign answers for places that a person changes: who signed that the value with this fingerprint is there, and when. It is nil
	// where no store is open.
	Signed func(ctx context.Context, location string) (Signature, bool)
}

// Signature is a person's word that a place holds a value.
type Signature struct {
	Fingerprint string
	By          string
	At          time.Time
}
