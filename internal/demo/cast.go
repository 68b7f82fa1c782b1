package demo

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
)

// Cast is who plays: the keys of the demo, as a person made them in the Console.
type Cast struct {
	Organization, Workspace string
	Admin                   secret.Value
	Primary, Secondary      Slot
}

// Slot is a key with the value that is deployed and the one that a person made to follow it.
type Slot struct {
	Name     string
	Old, New secret.Value
}

// age is how long ago the deployed keys were made.
const age = 83 * 24 * time.Hour

// NewCast makes the keys at a new simulator. With the same seed it makes the same values as any other process, so a test knows what to look for.
func NewCast(sim *simulator.Simulator) (*Cast, error) {
	c := &Cast{Organization: sim.Organization(), Workspace: sim.AddWorkspace("Production").ID, Primary: Slot{Name: "prod-primary"}, Secondary: Slot{Name: "prod-secondary"}}
	create := func(s *Slot) (secret.Value, error) {
		_, value, err := sim.CreateKey(simulator.CreateKey{Name: apikey.ConsoleName("demo", apikey.Name(s.Name), sim.Now()), Workspace: c.Workspace})
		return secret.New([]byte(value)), fault.Wrap(fault.Unknown, err, "make keys")
	}
	for _, s := range []*Slot{&c.Primary, &c.Secondary} {
		var err error
		sim.Advance(-age)
		s.Old, err = create(s)
		sim.Advance(age)
		if err == nil {
			s.New, err = create(s)
		}
		if err != nil {
			return nil, err
		}
	}
	c.Admin = secret.New([]byte(sim.AdminKey()))
	return c, nil
}

// Values gives every value.
func (c *Cast) Values() []secret.Value {
	return []secret.Value{c.Admin, c.Primary.Old, c.Primary.New, c.Secondary.Old, c.Secondary.New}
}

// destroy overwrites the values. A nil cast has none.
func (c *Cast) destroy() {
	if c == nil {
		return
	}
	for _, v := range c.Values() {
		v.Destroy()
	}
}
